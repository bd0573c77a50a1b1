"""Threads that all do the same, and end when the queue before them closes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter

from lowtide.workers.engine.job import Job


class Crew:
    """They are daemons: a thread that is inside somebody else's code can't be made to end."""

    def __init__(self, name: str, count: int, run: Callable[[], None]) -> None:
        self.name = name
        self._at: dict[int, tuple[float, Job]] = {}
        self._threads = [threading.Thread(target=run, name=f"{name}-{index}", daemon=True) for index in range(count)]

    def start(self) -> None:
        """Let them run."""
        for thread in self._threads:
            thread.start()

    @contextmanager
    def at_work(self, job: Job) -> Iterator[None]:
        """Around what one of them does for `job` that may never end."""
        ident = threading.get_ident()
        self._at[ident] = (time.monotonic(), job)
        try:
            yield
        finally:
            del self._at[ident]

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Within `at_work`, around a wait for the others: its time counts for nothing, and begins anew."""
        ident = threading.get_ident()
        _, job = self._at.pop(ident)
        try:
            yield
        finally:
            self._at[ident] = (time.monotonic(), job)

    def longest(self) -> tuple[float, Job] | None:
        """Since when one of them has been at which job, of the one that has been for longest. From any thread."""
        return min(self._at.copy().values(), key=itemgetter(0), default=None)

    def join(self, until_s: float) -> bool:
        """Wait for them until the monotonic time `until_s`; False when one is still busy."""
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in started)

"""Threads that all do the same, and end when the queue before them closes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Crew:
    """`start` → … → `join`. Daemons: a thread that is inside somebody else's code can't be made to end."""

    def __init__(self, name: str, count: int, run: Callable[[], None]) -> None:
        self.name = name
        self._since_s: dict[int, float] = {}
        self._threads = [threading.Thread(target=run, name=f"{name}-{index}", daemon=True) for index in range(count)]

    def start(self) -> None:
        """Let them run."""
        for thread in self._threads:
            thread.start()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around what one of them does that may never end."""
        ident = threading.get_ident()
        self._since_s[ident] = time.monotonic()
        try:
            yield
        finally:
            del self._since_s[ident]

    def longest_s(self) -> float:
        """How long the one that has been at one thing for longest has been at it. From any thread."""
        since_s = self._since_s.copy().values()
        return time.monotonic() - min(since_s) if since_s else 0.0

    def join(self, until_s: float) -> bool:
        """Wait for them until the monotonic time `until_s`; False when one is still busy."""
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in started)

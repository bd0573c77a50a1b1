"""Threads that all do the same, and end when the queue before them closes."""

import threading
import time
from collections.abc import Callable


class Crew:
    """`start` → … → `join`. Daemons: a thread that is inside somebody else's code can't be made to end."""

    def __init__(self, name: str, count: int, run: Callable[[], None]) -> None:
        self._threads = [threading.Thread(target=run, name=f"{name}-{index}", daemon=True) for index in range(count)]

    def start(self) -> None:
        """Let them run."""
        for thread in self._threads:
            thread.start()

    def join(self, until_s: float) -> bool:
        """Wait for them until the monotonic time `until_s`; False when one is still busy."""
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in started)

"""`LoopLiveness`: whether Celery's event loop still turns. Without it no task is taken and none is acknowledged."""

import time
from collections.abc import Callable

LONGEST_TURN_S = 15.0
"""Kombu's loop sleeps for at most 10 s (`Hub.fire_timers`), and one turn may wait for a slow Redis."""


class LoopLiveness:
    """Beaten by the loop's thread, asked by any."""

    def __init__(
        self,
        *,
        stuck_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s = max(stuck_after_s, LONGEST_TURN_S)
        self._clock = clock
        self._beat_s: float | None = None

    def beat(self) -> None:
        """The loop turns."""
        self._beat_s = self._clock()

    def rest(self) -> None:
        """A connection ended: no loop runs until there is another one, however long that takes."""
        self._beat_s = None

    def stuck(self) -> str | None:
        """That the loop stands still although it is connected, as a sentence; None as a rule."""
        beat_s = self._beat_s  # read once: the other thread may rest meanwhile
        if beat_s is None:
            return None
        silent_s = self._clock() - beat_s
        return f"Celery's event loop has stood still for {silent_s:.0f} s" if silent_s > self._limit_s else None

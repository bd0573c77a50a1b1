"""The last failure that another try may cure, which `lowtide status` shows to those who wait."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lowtide.tasks.wire.outcome import Outcome, Status

RECENT_S = 180.0
"""Nothing new for so long, and it is over: the last try of a request comes 90 s after the one before
(`bridge.waits`).
"""

WHY_MAX_CHARS = 300


@dataclass(frozen=True, slots=True)
class Retrying:
    """`why`: what the newest lacked; it failed `ago_s` ago. `count`: failures since there was none for `RECENT_S`."""

    why: str
    ago_s: float
    count: int


class Retries:
    """Safe from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._why = ""
        self._at_s = 0.0
        self._count = 0

    def note(self, outcome: Outcome) -> None:
        """Whatever else it may be, an outcome that asks for another try is kept in mind."""
        if outcome.status is not Status.RETRY or outcome.error is None:
            return
        with self._lock:
            now_s = self._clock()
            self._count = self._count + 1 if now_s - self._at_s <= RECENT_S else 1
            self._why, self._at_s = outcome.error.message[:WHY_MAX_CHARS], now_s

    def recent(self) -> Retrying | None:
        """None when there is nothing to tell."""
        with self._lock:
            ago_s = self._clock() - self._at_s
            return Retrying(self._why, round(ago_s, 1), self._count) if self._count and ago_s <= RECENT_S else None

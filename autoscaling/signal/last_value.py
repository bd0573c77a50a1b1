"""`LastValue`: the last value that a source gave, and how old it is. Missing data is never zero."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from lowtide.config.process.outage import Outage
from lowtide.tasks.redis.trouble import told

Value = TypeVar("Value")


class SourceUnreadable(Exception):
    """Raised when a source can't be read now. The message says why."""


class LastValue(Generic[Value]):
    """Reads a source. While it can't be read, `value` stays what it was (None before the first time), and `why` tells
    the reason. Logs once that the source is away, and once that it is back.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Value],
        *,
        age_of: Callable[[Value], float] = lambda value: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`age_of`: seconds that a value has behind it when it comes."""
        self.name = name
        self.value: Value | None = None
        self.why: str | None = None
        self._read = read
        self._age_of = age_of
        self._clock = clock
        self._at_s = clock()
        self._outage = Outage(f"{name} can't be read: its last value is held", why=told)

    @property
    def age_s(self) -> float:
        """How old `value` is, seconds; before the first time, since when we try."""
        return self._clock() - self._at_s

    def refresh(self) -> Value | None:
        """Read it anew, or hold what there is."""
        try:
            value = self._read()
        except SourceUnreadable as error:
            self.why = str(error)
            self._outage.failed(error)
        else:
            self.why = None
            self.hold(value)
            self._outage.over()
        return self.value

    def hold(self, value: Value) -> None:
        """Take this for the last value; also one that somebody else has read."""
        self.value = value
        self._at_s = self._clock() - self._age_of(value)

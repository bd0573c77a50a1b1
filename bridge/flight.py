"""Chunks that were sent and have no result yet, and what is left of those that have."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lowtide.bridge.messages import Translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One chunk under way. `sent_s`: monotonic."""

    task_id: str
    items: tuple[Translated, ...]
    sent_s: float

    @property
    def has_content(self) -> bool:
        """True when content travels with it."""
        return any(item.request.uri is None for item in self.items)

    @property
    def content_bytes(self) -> int:
        """How much."""
        return sum(item.request.inline_bytes for item in self.items)


@dataclass(slots=True)
class _Landed:
    """What is left of a chunk."""

    unsettled: int
    content_bytes: int


class InFlight:
    """Task id → chunk. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._flights: dict[str, Flight] = {}
        self._landed: dict[str, _Landed] = {}
        self._requests = 0
        self._content_bytes = 0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def requests(self) -> int:
        """Requests in Redis that are ours."""
        return self._requests

    @property
    def content_bytes(self) -> int:
        """Bytes of content in Redis that are ours: until their chunk is done with."""
        return self._content_bytes

    def launch(self, task_id: str, items: Sequence[Translated]) -> None:
        """A chunk is about to be sent."""
        flight = Flight(task_id=task_id, items=tuple(items), sent_s=self._clock())
        with self._lock:
            self._flights[task_id] = flight
            self._requests += len(items)
            self._content_bytes += flight.content_bytes

    def get(self, task_id: str) -> Flight | None:
        """A chunk that is under way."""
        return self._flights.get(task_id)

    def land(self, task_id: str) -> Flight | None:
        """A chunk's result came, or it is given up; None when it was not under way."""
        with self._lock:
            flight = self._flights.pop(task_id, None)
            if flight is not None:
                self._requests -= len(flight.items)
                self._landed[task_id] = _Landed(len(flight.items), flight.content_bytes)
            return flight

    def settled(self, task_ids: Iterable[str | None]) -> list[str]:
        """Messages of these chunks are settled, one per mention; returns the chunks that are done with."""
        done = []
        with self._lock:
            for task_id in task_ids:
                if task_id is not None and (landed := self._landed.get(task_id)):
                    landed.unsettled -= 1
                    if landed.unsettled == 0:
                        del self._landed[task_id]
                        self._content_bytes -= landed.content_bytes
                        done.append(task_id)
        return done

    def older_than(self, age_s: float) -> list[Flight]:
        """Chunks that have been under way for so long."""
        now_s = self._clock()
        with self._lock:
            return [flight for flight in self._flights.values() if now_s - flight.sent_s >= age_s]

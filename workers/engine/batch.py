"""Which of the items that are ready the device runs next, and why now. Pure: no threads, and time is an argument.

Items of one model and one shape form a batch: high priority first, then whoever is due first.
"""

import heapq
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from lowtide.workers.engine.job import Ready

PATIENCE_S = 30.0
"""A request that never expires is due so long after it came: those that do expire can't overtake it for ever."""


class Fired(StrEnum):
    """Why a batch ran when it did."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        """A member that carries the sentence that defines it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    FULL = "full", "As many items were ready as the device may run at once."
    IDLE = "idle", "The device was free and no wait for a fuller batch is asked for."
    WAITED = "waited", "The device was free, and the wait for a fuller batch ran out."
    DRAIN = "drain", "The engine is closing: nothing more will come to fill the batch."


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Items of one model and shape to run at once. `expired` came due while they waited: they don't run."""

    model: str
    ready: tuple[Ready, ...]
    expired: tuple[Ready, ...]
    fired: Fired


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to run before `until_s`, unless something is added (infinity: only then)."""

    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one device allows: the most items of a model at once, and how long a batch of it takes, seconds (0: not
    measured yet).
    """

    most: Callable[[str], int]
    batch_s: Callable[[str], float]
    wait_s: float = 0.0
    draining: bool = False


_Entry = tuple[bool, float, int, Ready]


@dataclass(slots=True)
class _Group:
    model: str
    heap: list[_Entry] = field(default_factory=list)
    since_s: float = 0.0
    expires_s: float = math.inf


class Batcher:
    """The items that are ready, and the choice among them."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, _Group] = {}
        self._added = 0

    def __len__(self) -> int:
        return sum(len(group.heap) for group in self._groups.values())

    def add(self, ready: Ready, now_s: float) -> None:
        """One more item is ready."""
        job = ready.job
        kind = (job.request.model, ready.item.shape, ready.item.dtype)
        group = self._groups.get(kind)
        if group is None:
            group = self._groups[kind] = _Group(job.request.model, since_s=now_s)
        due_s = min(job.expires_s, job.arrived_s + PATIENCE_S)
        self._added += 1
        heapq.heappush(group.heap, (not job.urgent, due_s, self._added, ready))
        group.expires_s = min(group.expires_s, job.expires_s)

    def next(self, now_s: float, terms: Terms) -> Batch | Wait:
        """The batch that a free device should run now, which leaves the batcher; or how long to wait for one."""
        until_s = math.inf
        for kind, group in sorted(self._groups.items(), key=_most_pressing):
            fired, fires_s = _decide(group, now_s, terms)
            if fired is not None:
                return self._take(kind, now_s, terms.most(group.model), fired)
            until_s = min(until_s, fires_s)
        return Wait(until_s)

    def clear(self) -> None:
        """Forget every item."""
        self._groups.clear()

    def _take(self, kind: Hashable, now_s: float, most: int, fired: Fired) -> Batch:
        group = self._groups[kind]
        ready: list[Ready] = []
        expired: list[Ready] = []
        while group.heap and len(ready) < most:
            item = heapq.heappop(group.heap)[-1]
            (expired if now_s >= item.job.expires_s else ready).append(item)
        if not group.heap:
            del self._groups[kind]
        return Batch(model=group.model, ready=tuple(ready), expired=tuple(expired), fired=fired)


def _most_pressing(kind_and_group: tuple[Hashable, _Group]) -> tuple[bool, float, int]:
    return kind_and_group[1].heap[0][:3]


def _decide(group: _Group, now_s: float, terms: Terms) -> tuple[Fired | None, float]:
    """Why to fire the group now; else None and when."""
    if len(group.heap) >= terms.most(group.model):
        return Fired.FULL, now_s
    if terms.draining:
        return Fired.DRAIN, now_s
    batch_s = terms.batch_s(group.model)
    wait_s = min(terms.wait_s, batch_s)
    if wait_s <= 0.0:
        return Fired.IDLE, now_s
    # A wait must not cost anybody the deadline: the batch itself takes batch_s.
    fires_s = min(group.since_s + wait_s, group.expires_s - batch_s)
    return (Fired.WAITED, now_s) if now_s >= fires_s else (None, fires_s)

"""Whether a worker's failures are its own fault, or that of its requests. Pure.

A worker that fails each request within a millisecond always has room, so it gets most of the fleet's work. No kind of
failure shows by itself whose fault it is: behind a proxy that answers for Cloud Storage everything is `not_an_image`,
on a full disk everything is truncated, and a bucket may be forbidden to all. So workers are compared, in two steps,
each for one model and one kind of failure:

1. The *charge*: nearly all of this worker's last outcomes are such failures. That alone is no more than a reason to
   doubt, for one sender's bad requests may have come here in a row.
2. The *verdict*, over the seconds since the charge, in which this worker takes one task at a time. It is suspect if it
   goes on failing so, while others answer most of their requests and hardly ever fail so. What others did before the
   charge does not count: when a whole fleet loses its access, somebody is the first to notice. If others fail alike, it
   is the requests or the world, and whoever asked gets the failure.

So a lone worker is never suspect, nor is one while its fleet has nothing to do; of two workers never both are. All
kinds of failure are treated alike, except those that a request has wherever it goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

OK = "ok"

RECENT = 20
"""Outcomes of a model that a charge looks at."""
NEARLY_ALL = 0.9
MOST = 0.5
HARDLY_EVER = 0.1
ENOUGH_OF_MINE = 5
"""Since the charge, beside the twenty before it. They come from tasks of several seconds, so one bad sender among
others does not fill them.
"""
ENOUGH_OF_OTHERS = 10

OF_THE_REQUEST = frozenset({"invalid_request", "unknown_model", "expired"})
"""What no worker's surroundings can cause: no outcome that says anything of the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Failures of this kind are nearly all that this worker lately made of requests of this model."""

    model: str
    kind: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Outcomes of one model by kind: `OK`, or the type of an error."""

    by_kind: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Of all kinds."""
        return sum(self.by_kind.values())

    def of(self, kind: str) -> int:
        """Of this kind."""
        return self.by_kind.get(kind, 0)

    def since(self, before: "Counts") -> "Counts":
        """What was added to `before`."""
        return Counts({kind: more for kind, count in self.by_kind.items() if (more := count - before.of(kind)) > 0})

    def plus(self, more: "Counts") -> "Counts":
        """Both together."""
        return Counts({kind: self.of(kind) + more.of(kind) for kind in {*self.by_kind, *more.by_kind}})


class Judgement(Enum):
    """What the comparison says."""

    OPEN = "too little is known"
    CLEARED = "others fail alike, or this worker does no more"
    SUSPECT = "others answer what this worker fails"


def charged(model: str, recent: Sequence[str]) -> Charge | None:
    """The charge that the last outcomes of `model` amount to, None as a rule."""
    if len(recent) < RECENT:
        return None
    kind = max(set(recent), key=recent.count)
    enough = recent.count(kind) >= NEARLY_ALL * len(recent)
    return Charge(model=model, kind=kind) if enough and kind != OK else None


def verdict(kind: str, *, mine: Counts, others: Counts) -> Judgement:
    """What outcomes of the same model and seconds say of failures of `kind`."""
    if mine.total >= ENOUGH_OF_MINE and mine.of(kind) < NEARLY_ALL * mine.total:
        return Judgement.CLEARED
    comparable = others.of(OK) + others.of(kind)
    if comparable < ENOUGH_OF_OTHERS:
        return Judgement.OPEN
    if others.of(kind) > HARDLY_EVER * comparable or others.of(OK) < MOST * others.total:
        return Judgement.CLEARED
    return Judgement.SUSPECT if mine.total >= ENOUGH_OF_MINE else Judgement.OPEN

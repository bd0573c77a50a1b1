"""Solo mode: everything at one moment, for tests/unit/tasks/running/solo_model.py."""

from collections.abc import Hashable, Sequence
from enum import Enum
from functools import cache
from typing import NamedTuple

WORKERS = (0, 1)
LOSSES_MAX = 12
"""As many as anybody counts: else a variation that ends nothing has no end of states."""
COPIES = (0, 1, 2)
"""Names for copies of the chunk: one that is sent again finds one that no worker runs."""

OK, GIVEN_UP = "ok", "given up"
CONTENT_LOST = ("content lost",)
"""In the place of a result: the sender is to send the chunk once more, with its content."""


class Circumstance(Enum):
    """In which less is promised."""

    TWOFOLD = "two have the chunk: a worker stood still until it was given to another, or it was sent a second time"
    UNCONFIRMED = (
        "Redis took a mark, or did not take an absolution, and the next worker was lost before it ran anything"
    )
    EMPTIED = "Redis was emptied while the request ran alone"


class Copy(NamedTuple):
    """A message with the chunk. `place`: "" (none), "queue", "dead" (held by an incarnation that is gone), or "0" or
    "1" (by that worker's).
    """

    place: str = ""


NOWHERE = Copy()


class Run(NamedTuple):
    """A worker with the chunk.

    `copy`: which one it took; `again`: Redis knew that the chunk was held before. `at`: index of its next step.
    `after`: so many losses it found. `spent`: requests with three strikes. `split`: groups that were lost. `within`: it
    fetches within the mark. `outcomes`: those that it has, "" for none. `step`: index of its next step
    with the group whose turn it is, that of the first request without an outcome. `marked`: Redis has a mark of it.
    """

    copy: int
    again: bool
    at: int = 0
    after: int = 0
    spent: tuple[int, ...] = ()
    split: tuple[int, ...] = ()
    within: bool = False
    outcomes: tuple[str, ...] = ()
    step: int = 0
    marked: bool = False

    @property
    def turn(self) -> int:
        """The request whose turn it is."""
        return self.outcomes.index("")


class State(NamedTuple):
    """Everything at one moment.

    Redis has `copies`, `noted` (the count of losses exists) and `count`, `marks` (for each request, and then for each
    group, after how many losses it ran alone), `parts`, `result`, `blob` (the content). `stray`: so many losses no mark
    explains. `learned`: the bridge knows the result; `forgot`: Redis lost its data, and the bridge has yet to notice.
    For the judgement: `losses`, of a worker that ran this request alone; `unsure`, marks of it that nobody confirmed;
    `answered`, requests whose outcome was stored; `twofold` and `emptied`, see `Circumstance`; `wrong`.
    """

    copies: tuple[Copy, ...]
    runs: tuple[Run | None, Run | None]
    marks: tuple[frozenset[int], ...]
    parts: tuple[bool, ...]
    losses: tuple[int, ...]
    unsure: tuple[int, ...]
    answered: tuple[bool, ...]
    faults_left: int
    noted: bool = False
    count: int = 0
    stray: int = 0
    blob: bool = True
    result: tuple[str, ...] | None = None
    learned: bool = False
    forgot: bool = False
    twofold: bool = False
    emptied: bool = False
    wrong: str | None = None

    def of(self, w: int, run: Run | None) -> "State":
        """With worker `w` as it is now."""
        return self._replace(runs=replaced(self.runs, w, run))

    def placed(self, c: int, place: str) -> "State":
        """With copy `c` there."""
        return self._replace(copies=replaced(self.copies, c, Copy(place=place)))


Move = tuple[str, State]


@cache
def renamed(copies: tuple[Copy, ...], runs: tuple[Run | None, ...]) -> Hashable:
    """The same, whatever the workers and the copies are called."""
    return min(_seen_from(workers, copies, runs) for workers in (WORKERS, WORKERS[::-1]))


def _seen_from(workers: Sequence[int], copies: Sequence[Copy], runs: Sequence[Run | None]) -> tuple[tuple, ...]:
    """The workers are called by their turns, and the copies by who has them."""
    places = {str(w): str(turn) for turn, w in enumerate(workers)}
    found = (
        (places.get(place, place), *(run is not None and run.copy == c for run in (runs[w] for w in workers)))
        for c, (place,) in enumerate(copies)
    )
    return (tuple(sorted(found)), *(run[1:] if run else () for run in (runs[w] for w in workers)))


def all_replaced(items: tuple, indices: Sequence[int], item: object) -> tuple:
    return tuple(item if index in indices else other for index, other in enumerate(items))


def replaced(items: tuple, index: int, item: object) -> tuple:
    return (*items[:index], item, *items[index + 1 :])

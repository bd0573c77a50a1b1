"""Solo mode: its steps and pieces, and what must not be, for tests/unit/tasks/running/solo_model.py."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt

from lowtide.tasks.running.losses import STRIKES_MAX
from tests.unit.tasks.running.solo_state import Circumstance, State, replaced

WORKER = ("look", "fetch", "run", "store", "ack")
"""What a worker does with a chunk that it took."""

ALONE = ("mark", "submit", "absolve")
"""What it does with each group, or single request, of a chunk that was lost, while it runs."""

PIECES = frozenset(
    {
        "sweeper",
        "count losses",
        "note what is handed back",
        "split what was lost",
        "fetch within the mark",
        "store parts",
        "absolve at a drain",
        "keep what is done at a drain",
        "skip what is finished",
        "send again",
        "note what is sent again",
        "send content again",
        "drop the news",
        "look for a result",
    }
)
"""What solo mode needs beside its steps."""

BLAMED = "given up without three losses while it ran alone"
ENDLESS = "took more workers down than three while it ran alone"
AGAIN = "run again, though its outcome is stored"
OTHERWISE = "ended twice, and not in the same way"
UNDONE = "a result gave way to the news that content is lost"


def group_sizes(requests: int) -> tuple[int, ...]:
    """One level of groups, unless there are too few requests."""
    size = isqrt(requests)
    return (size,) if size > 1 else ()


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Solo mode, or a variation of it: another order of steps, pieces left out, circumstances not excused. `poisons`:
    at which step the poisonous request ends the process. `groups`: their size at each level; None: one level of √n.
    """

    poison: int | None = 0
    poisons: str = "submit"
    requests: int = 2
    groups: Sequence[int] | None = None
    worker: Sequence[str] = WORKER
    alone: Sequence[str] = ALONE
    pieces: frozenset[str] = PIECES
    circumstances: frozenset[Circumstance] = frozenset(Circumstance)

    @cached_property
    def units(self) -> tuple[range, ...]:
        """What may run alone: each request, and each group, the larger ones first."""
        every = range(self.requests)
        sizes = group_sizes(self.requests) if self.groups is None else self.groups
        groups = (every[first : first + size] for size in sizes for first in every[::size])
        return (*(every[index : index + 1] for index in every), *groups)

    # ---- judgement

    def _excused(self, it_is_so: bool, circumstance: Circumstance) -> bool:
        return it_is_so and circumstance in self.circumstances

    def _lost_alone(self, state: State, turn: int) -> State:
        # Three are as many as anybody asks for.
        return state._replace(losses=replaced(state.losses, turn, min(state.losses[turn] + 1, STRIKES_MAX)))

    def _unconfirmed(self, state: State, turn: int) -> State:
        """The mark is a strike if the next worker is lost before it runs the request."""
        if Circumstance.UNCONFIRMED not in self.circumstances:
            return state
        return state._replace(unsure=replaced(state.unsure, turn, min(state.unsure[turn] + 1, STRIKES_MAX)))

    def _blamed(self, state: State, w: int, spent: Iterable[int]) -> str | None:
        """Each strike is a loss or may be one; or the request runs alone in the other worker, too."""
        other = state.runs[1 - w]
        at = other.turn if other and other.marked and self._excused(state.twofold, Circumstance.TWOFOLD) else None
        few = any(state.losses[turn] + state.unsure[turn] + (turn == at) < STRIKES_MAX for turn in spent)
        return BLAMED if few else None

    def _endless(self, state: State, members: Sequence[int]) -> str | None:
        turn = members[0]
        excused = self._excused(state.twofold, Circumstance.TWOFOLD)
        excused |= self._excused(state.emptied, Circumstance.EMPTIED)
        alone = len(members) == 1
        return ENDLESS if alone and state.losses[turn] >= STRIKES_MAX and not excused else None

    def _again(self, state: State, *turns: int) -> str | None:
        stored = any(state.answered[turn] for turn in turns)
        return AGAIN if stored and not self._excused(state.twofold, Circumstance.TWOFOLD) else None

"""Every state that a model of a protocol can come to, breadth first, and what is wrong with the first bad one.

States that differ in nothing but what two equals are called have the same future, with those names exchanged: one of
them is enough (symmetry reduction).
"""

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S")

WEDGED = "nothing leads to an end"


class Explorable(Protocol[S]):
    """A model."""

    def start(self) -> S:
        """The state in which all begins."""

    def moves(self, state: S) -> Iterable[tuple[str, S]]:
        """What may happen next, faults aside: a word for it, and the state after it."""

    def faults_of(self, state: S) -> Iterable[tuple[str, S]]:
        """What may go wrong next."""

    def wrong(self, state: S) -> str | None:
        """The invariant that the state breaks."""

    def finished(self, state: S) -> bool:
        """True of an end."""

    def key(self, state: S) -> Hashable:
        """The same for two states only if whatever may become of one may become of the other, but for names."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """What is wrong, and the moves that lead there, as few as possible."""

    what: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.what}:", *(f"{number:4}. {move}" for number, move in enumerate(self.trace, 1))])


@dataclass(frozen=True, kw_only=True)
class Exploration(Generic[S]):
    """The states that were found, one of each key, and what is wrong with the first bad one."""

    states: Collection[S]
    violation: Violation | None


Came = tuple[str, int]
"""How a state was come to first: the move, and the number of the state before it."""


def explore(model: Explorable[S]) -> Exploration[S]:
    """Every state. Stops at the first that breaks an invariant; then looks for those that are wedged."""
    states = [model.start()]
    numbers = {model.key(states[0]): 0}
    came_from: list[Came] = [("", 0)]
    backward: list[list[int]] = [[]]

    def number_of(new: S, came: Came) -> int:
        number = numbers.setdefault(model.key(new), len(states))
        if number == len(states):
            states.append(new)
            came_from.append(came)
            backward.append([])
        return number

    for number, state in enumerate(states):  # which grow meanwhile
        if what := model.wrong(state):
            return Exploration(states=states, violation=_violation(what, number, came_from))
        for word, new in model.moves(state):
            backward[number_of(new, (word, number))].append(number)
        for word, new in model.faults_of(state):
            number_of(new, (word, number))
    wedged = _cannot_finish([model.finished(state) for state in states], backward)
    violation = _violation(WEDGED, wedged, came_from) if wedged is not None else None
    return Exploration(states=states, violation=violation)


def _cannot_finish(can: list[bool], backward: Sequence[Sequence[int]]) -> int | None:
    """The first state from which no moves, faults aside, lead to one that `can` says is an end."""
    todo = [number for number, finished in enumerate(can) if finished]
    while todo:
        for before in backward[todo.pop()]:
            if not can[before]:
                can[before] = True
                todo.append(before)
    return next((number for number, it_can in enumerate(can) if not it_can), None)


def _violation(what: str, number: int, came_from: Sequence[Came]) -> Violation:
    trace: list[str] = []
    while number:
        word, number = came_from[number]
        trace.append(word)
    return Violation(what=what, trace=tuple(reversed(trace)))

"""Every state that a model of a protocol can come to, breadth first, and what is wrong with the first bad one."""

from collections import deque
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)

WEDGED = "nothing leads to an end"


class Explorable(Protocol[S]):
    """A model. Its states are values that can be compared."""

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


@dataclass(frozen=True, kw_only=True)
class Violation:
    """What is wrong, and the moves that lead there, as few as possible."""

    what: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.what}:", *(f"{number:4}. {move}" for number, move in enumerate(self.trace, 1))])


@dataclass(frozen=True, kw_only=True)
class Exploration(Generic[S]):
    """The states that were found, and what is wrong with the first bad one."""

    states: Collection[S]
    violation: Violation | None


def explore(model: Explorable[S]) -> Exploration[S]:
    """Every state. Stops at the first that breaks an invariant; then looks for those that are wedged."""
    start = model.start()
    came_from: dict[S, tuple[str, S] | None] = {start: None}
    backward: dict[S, list[S]] = {}
    todo = deque([start])
    while todo:
        state = todo.popleft()
        if what := model.wrong(state):
            return Exploration(states=came_from.keys(), violation=_violation(what, state, came_from))
        for word, new in model.moves(state):
            backward.setdefault(new, []).append(state)
            if came_from.setdefault(new, (word, state)) == (word, state):
                todo.append(new)
        for word, new in model.faults_of(state):
            if came_from.setdefault(new, (word, state)) == (word, state):
                todo.append(new)
    wedged = _cannot_finish(model, came_from, backward)
    violation = _violation(WEDGED, wedged, came_from) if wedged is not None else None
    return Exploration(states=came_from.keys(), violation=violation)


def _cannot_finish(model: Explorable[S], states: Iterable[S], backward: dict[S, list[S]]) -> S | None:
    """The first state from which no moves, faults aside, lead to an end."""
    todo = [state for state in states if model.finished(state)]
    can = set(todo)
    while todo:
        for before in backward.get(todo.pop(), ()):
            if before not in can:
                can.add(before)
                todo.append(before)
    return next((state for state in states if state not in can), None)


def _violation(what: str, state: S, came_from: dict[S, tuple[str, S] | None]) -> Violation:
    trace: list[Any] = []
    while came := came_from[state]:
        word, state = came
        trace.append(word)
    return Violation(what=what, trace=tuple(reversed(trace)))

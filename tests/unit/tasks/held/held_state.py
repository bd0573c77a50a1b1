"""How tasks are held: everything at one moment, for tests/unit/tasks/held/held_model.py."""

from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import NamedTuple

COPIES_MAX = 2


class Circumstance(Enum):
    """In which less is promised."""

    STOOD_STILL = "its worker stood still until it was given to another"
    SET_BACK = "Redis lost data while a worker had the task"


class Message(NamedTuple):
    """A task.

    `waiting`: copies in the list. `answer`: 1 when the result is stored, 2 when its sender has it. `again`: Redis or
    the message says that it was held before. `gone`: Redis lost data, and so its sender looks for it. `stood` and
    `set_back`: see `Circumstance`.
    """

    waiting: int = 1
    answer: int = 0
    again: bool = False
    gone: bool = False
    stood: bool = False
    set_back: bool = False


class Delivery(NamedTuple):
    """A task that a worker has. `at`: index of its next step. `back`: instead it is to be handed back."""

    message: int
    at: int
    back: bool = False


class Incarnation(NamedTuple):
    """A registration of a worker.

    `lives`: its process does. `current`: the process goes by this id; of a dead one, the slot's lock file has it.
    `registration`: "registered", "given up" (a sweep has begun), or none. `held`: its hash in Redis; `holds`: what the
    index by task says. `thought_gone`: why a sweeper thinks so of it: it was "silent" and has not beaten since, it was
    and has "beaten", or that is "mistaken". `name`: tells it apart, and makes no state another one.
    """

    slot: int
    lives: bool = True
    current: bool = True
    registration: str = "registered"
    held: tuple[int, ...] = ()
    holds: tuple[int, ...] = ()
    thought_gone: str = ""
    deliveries: tuple[Delivery, ...] = ()
    name: int = 0

    @property
    def over(self) -> bool:
        """Nothing of it is left."""
        named = self.current and (self.lives or self.registration)
        return not (named or self.registration or self.held or self.holds or self.deliveries)


class State(NamedTuple):
    """Everything at one moment. `up`: the slots in which a process lives. `read`: what each sweeper is about to give
    back that does so in two steps. `born`: so many incarnations, for their names.
    """

    messages: tuple[Message, ...]
    faults_left: int
    up: tuple[bool, ...]
    incarnations: tuple[Incarnation, ...] = ()
    read: tuple[int | None, int | None] = (None, None)
    full: bool = False
    born: int = 0
    wrong: str | None = None

    def of(self, i: int, me: Incarnation) -> "State":
        """With incarnation `i` as it is now."""
        return self._replace(incarnations=replaced(self.incarnations, i, me))

    def having(self, m: int, **fields: object) -> "State":
        """With other fields of message `m`."""
        return self._replace(messages=replaced(self.messages, m, self.messages[m]._replace(**fields)))

    def bad(self, what: str | None) -> "State":
        """With what is wrong, unless something is already."""
        return self._replace(wrong=self.wrong or what)

    def deliveries_of(self, m: int) -> list[tuple[Incarnation, Delivery]]:
        """All that workers have of message `m`."""
        return [(one, each) for one in self.incarnations for each in one.deliveries if each.message == m]

    def held(self, m: int) -> int:
        """In so many hashes."""
        return sum(m in one.held for one in self.incarnations)


Move = tuple[str, State]


def tidy(state: State) -> State:
    """What no rule asks for any more is left out: many states become one."""
    left = tuple(one for one in state.incarnations if not one.over)
    state = state._replace(incarnations=left)
    for m, message in enumerate(state.messages):
        astray = [one for one, _ in state.deliveries_of(m) if m not in one.held]
        if message.stood and not astray:
            state = state.having(m, stood=False)
        if message.answer == 2 and not (message.waiting or state.held(m) or state.deliveries_of(m)):
            state = state.having(m, again=False, set_back=False, gone=False)
    return state


def renamed(state: State, slots: Sequence[int], messages: tuple[int, ...]) -> tuple:
    """The same, with other names: message `m` is called `messages[m]`."""
    incarnations = sorted(_called(one, slots[one.slot], messages) for one in state.incarnations)
    read = sorted(-1 if m is None else messages[m] for m in state.read)
    named = (tuple(state.messages[m] for m in messages), tuple(incarnations), tuple(read))
    return (*named, tuple(state.up[slot] for slot in slots), state.full, state.faults_left, state.wrong)


@cache
def _called(one: Incarnation, slot: int, messages: tuple[int, ...]) -> Incarnation:
    return one._replace(
        slot=slot,
        held=tuple(sorted(messages[m] for m in one.held)),
        holds=tuple(sorted(messages[m] for m in one.holds)),
        deliveries=tuple(sorted(each._replace(message=messages[each.message]) for each in one.deliveries)),
        name=0,
    )


def replaced(items: tuple, index: int, item: object) -> tuple:
    return (*items[:index], item, *items[index + 1 :])


def plus(items: tuple, item: object) -> tuple:
    return tuple(sorted((*items, item)))


def minus(items: tuple, item: object) -> tuple:
    return tuple(other for other in items if other != item)


def changed(me: Incarnation, delivery: Delivery, *after: Delivery) -> Incarnation:
    """With one delivery as it is now, or without it."""
    left = list(me.deliveries)
    left.remove(delivery)
    return me._replace(deliveries=tuple(sorted((*left, *after))))

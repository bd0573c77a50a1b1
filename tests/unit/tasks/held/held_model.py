"""How tasks are held and go back, as the graph of all its states: two slots whose workers come and go, and any
number of sweepers.

The steps are data, in the order in which the code takes them, so that other orders can be explored as well. A script in
Redis is one step. Time is no number: what may happen after a while may happen at any moment, and a process that stands
still takes no step while others do. A sweeper remembers nothing but what it saw of a beat, and each of its calls is one
step: so two of them, or one whose lock is lost in mid-sweep, or one that dies there, do nothing that one can't do.
tests/integration/test_held_scripts.py takes its steps with the real scripts.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

from tests.unit.tasks.held.held_state import (
    Circumstance,
    Delivery,
    Incarnation,
    Message,
    Move,
    State,
    changed,
    renamed,
    replaced,
    tidy,
)
from tests.unit.tasks.held.held_steps import LOST, ORPHANED, TWICE, Steps

FAULTS = frozenset(
    {
        "CRASH",
        "ENDS",
        "STANDS STILL",
        "HANDED BACK",
        "UNANSWERED",
        "SET BACK",
        "FLUSHALL",
        "PURGED",
        "FULL",
        "PAUSED",
        "CLOCK STOPS",
        "STARTED TWICE",
    }
)
"""What may go wrong, by the word that tells it. `SET BACK`: Redis comes back without the last thing that it did."""

MISTAKES = {
    "PAUSED": "gaps are no silence",
    "CLOCK STOPS": "beats differ",
    "STARTED TWICE": "slot lock",
    "FULL": "beat when full",
}
"""Why living workers might be taken for dead, and what keeps anybody from it."""


@dataclass(frozen=True, kw_only=True)
class Model(Steps):
    """The protocol, or a variation of it, and what may go wrong."""

    kinds: frozenset[str] = FAULTS
    faults: int = 2

    def start(self) -> State:
        up = (True,) * self.slots
        return State(messages=(Message(),) * self.messages, faults_left=self.faults, up=up)

    def finished(self, state: State) -> bool:
        """Every sender has its answer, and nobody has anything."""
        return not any(
            message.answer < 2 or message.waiting or state.held(m) or state.deliveries_of(m)
            for m, message in enumerate(state.messages)
        )

    def key(self, state: State) -> Hashable:
        """Slots are equals, and so are messages."""
        slots, messages = permutations(range(self.slots)), permutations(range(self.messages))
        return min(renamed(state, *names) for names in product(slots, messages))

    def wrong(self, state: State) -> str | None:
        if state.wrong:
            return state.wrong
        if any(one.held and not one.registration for one in state.incarnations):
            return ORPHANED
        for m, message in enumerate(state.messages):
            places = message.waiting + state.held(m)
            if not (places or message.answer or message.gone):
                return LOST
            if places > 1 and not self._excused(message.set_back, Circumstance.SET_BACK):
                return TWICE
        return None

    def moves(self, state: State) -> Iterator[Move]:
        """What may happen next, faults aside."""
        found = (self._processes(state), self._sweepers(state), self._senders(state))
        yield from ((word, tidy(new)) for moves in found for word, new in moves)

    def faults_of(self, state: State) -> Iterator[Move]:
        """What may go wrong next, as long as faults are left and somebody waits."""
        if state.faults_left and any(message.answer < 2 for message in state.messages):
            for word, new in self._faults(state._replace(faults_left=state.faults_left - 1)):
                if any(kind in word for kind in self.kinds):
                    yield word, tidy(new)

    # ---- faults

    def _faults(self, state: State) -> Iterator[Move]:
        for slot, up in enumerate(state.up):
            if up:
                yield f"worker {slot}: CRASH", self._gone(state, slot)
                yield f"worker {slot}: ENDS", self._ended(state, slot)
        for i, me in enumerate(state.incarnations):
            if me.lives:
                yield from self._of_worker(state, i, me)
                for delivery in me.deliveries:
                    yield from self._of_delivery(state, i, me, delivery)
        yield from self._of_redis(state)

    def _gone(self, state: State, slot: int) -> State:
        left = (
            one._replace(lives=False, deliveries=(), thought_gone="") if one.slot == slot else one
            for one in state.incarnations
        )
        return state._replace(incarnations=tuple(left), up=replaced(state.up, slot, False))

    def _ended(self, state: State, slot: int) -> State:
        """It unregisters. Of its tasks it has handed back what it could."""
        own = [one.name for one in state.incarnations if one.slot == slot and one.current and one.lives]
        left = (
            one._replace(registration="")
            if one.name in own and not (one.held and "unregister when empty" in self.pieces)
            else one
            for one in state.incarnations
        )
        return self._gone(state._replace(incarnations=tuple(left)), slot)

    def _of_worker(self, state: State, i: int, me: Incarnation) -> Iterator[Move]:
        if not me.current:
            return
        if me.registration == "registered":
            yield f"worker {me.slot}: STANDS STILL", state.of(i, me._replace(thought_gone="silent"))
            for m, message in enumerate(state.messages):
                if message.waiting and m not in me.held:
                    taken = self._taken(state, i, m, answered=False)
                    yield f"worker {me.slot}: take {m}, UNANSWERED", taken
                    lost = self._taken(state, i, m, recorded=False).having(m, set_back=True)
                    yield f"worker {me.slot}: take {m}, SET BACK", lost

    def _of_delivery(self, state: State, i: int, me: Incarnation, delivery: Delivery) -> Iterator[Move]:
        m = delivery.message
        if not delivery.back:
            back = delivery._replace(back=True)
            yield f"worker {me.slot}: {m} is to be HANDED BACK", state.of(i, changed(me, delivery, back))
        else:
            yield f"worker {me.slot}: hand back {m}, UNANSWERED", self._off_the_hash(state, i, delivery, back=True)
        if delivery.back or self.worker[delivery.at] == "ack":
            unstored = state.messages[m].answer == 1 and m in me.held
            new = state.having(m, answer=0, gone=True) if unstored else state
            yield f"worker {me.slot}: release {m}, SET BACK", self._without(new, i, delivery)

    def _of_redis(self, state: State) -> Iterator[Move]:
        for slot, up in enumerate(state.up):
            if up and not any(one.slot == slot and one.lives and one.current for one in state.incarnations):
                yield f"worker {slot}: register, UNANSWERED", self._registered(state, slot, lives=False)
                yield f"worker {slot}: register, SET BACK", self._registered(state, slot, registration="")
        for m, message in enumerate(state.messages):
            if message.waiting:
                gone = message.gone or not (message.answer or state.held(m))
                yield f"list of {m}: PURGED", state.having(m, waiting=0, gone=gone)._replace(full=False)
        yield "FLUSHALL", self._flushed(state)
        for word, piece in MISTAKES.items():
            new = state._replace(full=state.full or word == "FULL")
            known = piece in self.pieces or piece.removesuffix(" when full") in self.when_full
            yield word, new if known else _mistaken(new)

    def _flushed(self, state: State) -> State:
        messages = (
            one if one.answer == 2 and not one.waiting else one._replace(waiting=0, again=False)
            for one in state.messages
        )
        messages = (one if one.answer == 2 else one._replace(answer=0, gone=True) for one in messages)
        left = (
            one._replace(registration="", held=(), holds=(), thought_gone="", current=one.current and one.lives)
            for one in state.incarnations
        )
        return state._replace(messages=tuple(messages), incarnations=tuple(left), full=False)


def _mistaken(state: State) -> State:
    """To a sweeper those who live look as if they were silent."""
    every = state.incarnations
    left = (one._replace(thought_gone="mistaken") if one.lives and one.registration else one for one in every)
    return state._replace(incarnations=tuple(left))

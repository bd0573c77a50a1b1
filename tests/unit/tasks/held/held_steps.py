"""How tasks are held: what workers, sweepers and senders do, for tests/unit/tasks/held/held_model.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.unit.tasks.held.held_state import (
    COPIES_MAX,
    Circumstance,
    Delivery,
    Incarnation,
    Move,
    State,
    changed,
    minus,
    plus,
    replaced,
)

WORKER = ("take", "begin", "store", "ack")
"""What a worker does with a task."""

SWEEP = ("give back", "unregister")
"""What a call of the sweeper does with an incarnation: one task, and the registration when none is left."""

WHEN_FULL = frozenset({"register", "beat", "take", "store", "ack", "hand back", "give back"})
"""What a full Redis does not refuse: the script's first write needs no memory."""

PIECES = frozenset(
    {
        "sweeper",
        "predecessor",
        "beats are compared",
        "given up at the first call",
        "takes are refused",
        "beats are refused",
        "another id",
        "drop what is not begun",
        "own hash",
        "flush before the take",
        "hand back what is unknown",
        "holders follow",
        "count losses",
        "note what is handed back",
        "skip what is finished",
        "send again",
        "unregister when empty",
        "slot lock",
        "gaps are no silence",
        "beats differ",
        "take in one step",
        "give back in one step",
    }
)
"""What the protocol needs beside its steps and `WHEN_FULL`."""

LOST = "neither waits nor is held nor is answered"
TWICE = "in two places at once"
ORPHANED = "held by an incarnation that is not registered"
ALIVE = "given back as lost, though its worker lives and has beaten"
UNTOLD = "a worker's beat or take is accepted, though what it has yet to begin was given to another"
ABANDONED = "begun by an incarnation that knows that it was given up"
STOLEN = "taken from the hash by the end of another delivery"
AGAIN = "run again, though another runs it or its result is stored"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The protocol, or a variation of it: another order of steps, pieces left out, circumstances not excused.
    `restarts`: a slot whose process is gone gets another.
    """

    messages: int = 1
    slots: int = 2
    worker: Sequence[str] = WORKER
    sweep: Sequence[str] = SWEEP
    pieces: frozenset[str] = PIECES
    when_full: frozenset[str] = WHEN_FULL
    circumstances: frozenset[Circumstance] = frozenset(Circumstance)
    restarts: bool = True

    # ---- a worker

    def _processes(self, state: State) -> Iterator[Move]:
        for slot, up in enumerate(state.up):
            named = any(one.slot == slot and one.lives and one.current for one in state.incarnations)
            if not up and self.restarts:
                yield f"worker {slot}: start", state._replace(up=replaced(state.up, slot, True))
            elif up and not named and self._goes(state, "register"):
                yield f"worker {slot}: register", self._registered(state, slot)
        for i, me in enumerate(state.incarnations):
            if me.lives and me.current:
                yield from self._beats(state, i, me)
                yield from self._takes(state, i, me)
            if me.lives:
                for delivery in me.deliveries:
                    yield from self._goes_on(state, i, me, delivery)

    def _registered(self, state: State, slot: int, **fields: object) -> State:
        """Under a new id, which the slot's lock file has from now on."""
        before = (one._replace(current=one.current and one.slot != slot) for one in state.incarnations)
        new = Incarnation(slot=slot, name=state.born, **fields)
        return state._replace(incarnations=(*before, new), born=state.born + 1)

    def _beats(self, state: State, i: int, me: Incarnation) -> Iterator[Move]:
        if not self._goes(state, "beat"):
            return
        if me.registration == "registered" or "beats are refused" not in self.pieces:
            thought_gone = "beaten" if me.thought_gone and "beats are compared" not in self.pieces else ""
            new = state.of(i, me._replace(registration="registered", thought_gone=thought_gone))
            yield f"worker {me.slot}: beat", new.bad(self._untold(state, me))
        else:
            yield f"worker {me.slot}: beat, refused", state.of(i, self._renewed(me))

    def _renewed(self, me: Incarnation) -> Incarnation:
        """It was given up, and knows it: what it has begun goes on, and the process registers anew."""
        begin = self.worker.index("begin")
        if "drop what is not begun" in self.pieces:
            me = me._replace(deliveries=tuple(each for each in me.deliveries if each.at > begin))
        if "another id" in self.pieces:
            return me._replace(current=False)
        return me._replace(registration="registered", thought_gone="")

    def _takes(self, state: State, i: int, me: Incarnation) -> Iterator[Move]:
        if not self._goes(state, "take"):
            return
        known = [each.message for each in me.deliveries]
        if me.registration != "registered" and "takes are refused" in self.pieces:
            yield f"worker {me.slot}: take, refused", state.of(i, self._renewed(me))
            return
        for m in me.held:
            if m not in known and "hand back what is unknown" in self.pieces:
                yield f"worker {me.slot}: hand back {m}, unknown", self._put_back(state, i, m, lost=False)
        if "flush before the take" in self.pieces and any(each.back for each in me.deliveries):
            return
        for m, message in enumerate(state.messages):
            if message.waiting and m not in me.held:
                new = self._taken(state, i, m)
                yield f"worker {me.slot}: take {m}", new.bad(self._untold(state, me))

    def _taken(self, state: State, i: int, m: int, *, recorded: bool = True, answered: bool = True) -> State:
        me = state.incarnations[i]
        if recorded:
            state = self._popped(state, m)
            if "take in one step" in self.pieces:
                me = me._replace(held=plus(me.held, m), holds=plus(me.holds, m))
        if answered:
            me = me._replace(deliveries=plus(me.deliveries, Delivery(message=m, at=1)))
        return state.of(i, me)

    def _popped(self, state: State, m: int) -> State:
        others = tuple(one._replace(holds=minus(one.holds, m)) for one in state.incarnations)
        return state.having(m, waiting=state.messages[m].waiting - 1)._replace(incarnations=others)

    def _goes_on(self, state: State, i: int, me: Incarnation, delivery: Delivery) -> Iterator[Move]:
        m, step = delivery.message, "hand back" if delivery.back else self.worker[delivery.at]
        if not self._goes(state, step):
            return
        word = f"worker {me.slot}: {step} {m}"
        if step == "begin":
            yield self._begins(state, i, me, delivery)
        elif step == "store":
            new = state.having(m, answer=max(state.messages[m].answer, 1))
            yield word, self._next(new, i, delivery)
        elif step == "ack":
            yield word, self._next(self._off_the_hash(state, i, delivery), i, delivery)
        else:
            new = self._off_the_hash(state, i, delivery, back=True)
            yield word, self._without(new, i, delivery)

    def _begins(self, state: State, i: int, me: Incarnation, delivery: Delivery) -> Move:
        m = delivery.message
        message = state.messages[m]
        word = f"worker {me.slot}: begin {m}"
        if message.again and message.answer and "skip what is finished" in self.pieces:
            done = delivery._replace(at=self.worker.index("ack"))
            return f"{word}: finished", state.of(i, changed(me, delivery, done))
        new = self._next(state, i, delivery)
        if not me.current:
            return word, new.bad(ABANDONED)
        run = [each for _, each in state.deliveries_of(m) if each.at > delivery.at and not each.back]
        excused = self._excused(message.stood, Circumstance.STOOD_STILL)
        excused |= self._excused(message.set_back, Circumstance.SET_BACK)
        return word, new.bad(AGAIN if (run or message.answer) and not excused else None)

    def _next(self, state: State, i: int, delivery: Delivery) -> State:
        after = delivery._replace(at=delivery.at + 1)
        if after.at == len(self.worker):
            return self._without(state, i, delivery)
        return state.of(i, changed(state.incarnations[i], delivery, after))

    def _without(self, state: State, i: int, delivery: Delivery) -> State:
        return state.of(i, changed(state.incarnations[i], delivery))

    def _off_the_hash(self, state: State, i: int, delivery: Delivery, *, back: bool = False) -> State:
        """Acknowledged, or handed back; nothing when somebody has taken it from the hash."""
        m = delivery.message
        own = m in state.incarnations[i].held
        if not own and "own hash" not in self.pieces:
            i = next((j for j, one in enumerate(state.incarnations) if m in one.held), i)
        me = state.incarnations[i]
        if m not in me.held:
            return state
        others = [each for each in me.deliveries if each.message == m and (not own or each is not delivery)]
        stolen = others and not self._excused(state.messages[m].set_back, Circumstance.SET_BACK)
        state = state.bad(STOLEN if stolen else None)
        if back:
            return self._put_back(state, i, m, lost=False)
        return state.of(i, self._off(me, m))._replace(full=False)

    def _off(self, me: Incarnation, m: int) -> Incarnation:
        holds = minus(me.holds, m) if "holders follow" in self.pieces else me.holds
        return me._replace(held=minus(me.held, m), holds=holds)

    def _put_back(self, state: State, i: int, m: int, *, lost: bool) -> State:
        noted = ("count losses" if lost else "note what is handed back") in self.pieces
        message = state.messages[m]
        state = state.of(i, self._off(state.incarnations[i], m))
        return state.having(m, waiting=min(message.waiting + 1, COPIES_MAX), again=message.again or noted)

    # ---- sweepers, senders

    def _sweepers(self, state: State) -> Iterator[Move]:
        for i, one in enumerate(state.incarnations):
            if not (one.registration and self._goes(state, "give back")):
                continue
            if "sweeper" in self.pieces and self._silent(one):
                yield from self._sweeps(state, i, one)
            if "predecessor" in self.pieces and one.current and not one.lives and state.up[one.slot]:
                for new in self._swept(state, i, one):
                    yield f"worker {one.slot}: give back its predecessor's", new
        for s, m in enumerate(state.read):
            if m is not None:
                yield f"sweeper {s}: push {m}, and delete it", self._pushed(state, s, m)

    def _silent(self, one: Incarnation) -> bool:
        """A sweeper's call is not refused: its beat is the one that was seen."""
        return bool(not one.lives or one.registration == "given up" or one.thought_gone)

    def _sweeps(self, state: State, i: int, one: Incarnation) -> Iterator[Move]:
        if "give back in one step" in self.pieces or not one.held:
            yield from ((f"sweeper: a call for worker {one.slot}'s", new) for new in self._swept(state, i, one))
            return
        for s, other in enumerate(state.read):
            if other is None:
                for m in one.held:
                    yield f"sweeper {s}: read {m}", state._replace(read=replaced(state.read, s, m))

    def _pushed(self, state: State, s: int, m: int) -> State:
        state = state._replace(read=replaced(state.read, s, None))
        others = tuple(self._off(one, m) if m in one.held else one for one in state.incarnations)
        waiting = min(state.messages[m].waiting + 1, COPIES_MAX)
        return state._replace(incarnations=others).having(m, waiting=waiting, again=True)

    def _swept(self, state: State, i: int, one: Incarnation) -> Iterator[State]:
        """One call, whichever task it gives back."""
        alive = one.lives and one.registration == "registered" and one.thought_gone in ("beaten", "mistaken")
        state = state.bad(ALIVE if alive and one.held else None)
        if "given up at the first call" in self.pieces:
            state = state.of(i, one._replace(registration="given up"))
        for m in one.held or (None,):
            new = state
            for step in self.sweep:
                new = self._sweep_step(new, i, step, m)
            yield new

    def _sweep_step(self, state: State, i: int, step: str, m: int | None) -> State:
        me = state.incarnations[i]
        if step == "give back" and m is not None:
            stood = state.messages[m].stood or any(each.message == m for each in me.deliveries)
            return self._put_back(state, i, m, lost=True).having(m, stood=stood)
        if step == "unregister" and (not me.held or step == self.sweep[0]):
            return state.of(i, me._replace(registration="", thought_gone=""))
        return state

    def _senders(self, state: State) -> Iterator[Move]:
        for m, message in enumerate(state.messages):
            if message.answer == 1:
                yield f"sender: learn {m}", state.having(m, answer=2, gone=False)
            nowhere = not (message.waiting or message.answer or any(m in one.holds for one in state.incarnations))
            if nowhere and message.gone and not state.full and "send again" in self.pieces:
                set_back = message.set_back or bool(state.deliveries_of(m))
                yield f"sender: send {m} again", state.having(m, waiting=1, again=True, set_back=set_back)
        if state.full and not any(message.waiting or state.held(m) for m, message in enumerate(state.messages)):
            yield "others' data expires: Redis is full no more", state._replace(full=False)

    # ---- judgement

    def _goes(self, state: State, step: str) -> bool:
        """Redis does not refuse it."""
        return not state.full or step in self.when_full or step == "begin"

    def _excused(self, it_is_so: bool, circumstance: Circumstance) -> bool:
        return it_is_so and circumstance in self.circumstances

    def _untold(self, state: State, me: Incarnation) -> str | None:
        begin = self.worker.index("begin")
        to_begin = (each.message for each in me.deliveries if each.at <= begin and not each.back)
        missed = (state.messages[m] for m in to_begin if m not in me.held)
        told = all(self._excused(message.set_back, Circumstance.SET_BACK) for message in missed)
        return None if told else UNTOLD

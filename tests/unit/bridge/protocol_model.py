"""The settle protocol of the design for one message, two bridges and one worker, as the graph of all its states.

The steps are data, in the order in which the code takes them, so that other orders can be explored as well. Time is no
number: what may happen after a while may happen at any moment, and a process that stands still is one that takes no
step while others do. A chunk that nobody waits for any more is left out: its result is read by nobody.

Content may travel beside the chunk: each bridge has a chunk of its own of the message, and content of its own. That may
be gone at any moment, any number of times, also when its bridge stood still for longer than Redis keeps it.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from tests.unit.bridge.protocol_state import NO_CHUNK, REST, Bridge, Circumstance, Move, State

BRIDGE = (
    "pull",
    "look up",
    "enqueue",
    "learn",
    "claim",
    "renew",
    "publish",
    "record",
    "acknowledge",
    "let expire",
)
SILENT = ("pull", "look up", "claim", "record", "acknowledge", "let expire")
"""What a bridge does with an event that is no upload, which ends without a message."""
WORKER = ("take", "store", "ack")

DONE = ("acknowledge", "let expire")
"""What a bridge does that finds a message done."""

PIECES = frozenset(
    {
        "sweeper",
        "send again",
        "say that content is lost",
        "send content again",
        "claims lapse",
        "sure leases",
        "forget what is stale",
        "drop old answers",
    }
)
"""What the protocol needs beside its steps."""

LOST = "acknowledged, and nothing was published"
UNRECORDED = "acknowledged, and not recorded"
TWICE = "published twice"


@dataclass(frozen=True, kw_only=True)
class Model:
    """The protocol, or a variation of it: another order of steps, pieces left out, circumstances not excused. `silent`:
    for a message that ends in silence. `beside`: content travels beside the chunk.
    """

    bridge: Sequence[str] = BRIDGE
    silent: bool = False
    beside: bool = False
    worker: Sequence[str] = WORKER
    pieces: frozenset[str] = PIECES
    circumstances: frozenset[Circumstance] = frozenset(Circumstance)
    faults: int = 3

    def start(self) -> State:
        return State(faults_left=self.faults)

    def key(self, state: State) -> Hashable:
        """The bridges are equals."""
        one, other = ((me, state.record == str(b), state.chunk == b) for b, me in enumerate(state.bridges))
        return state if one <= other else state.renamed()

    def moves(self, state: State) -> Iterator[Move]:
        """What may happen next, faults aside."""
        for b in (0, 1):
            for word, new in self._bridge_moves(state, b):
                yield f"bridge {b}: {word}", self._judged(new)
        for word, new in (*self._worker_moves(state), *self._time(state)):
            yield word, self._judged(new)

    def faults_of(self, state: State) -> Iterator[Move]:
        """What may go wrong next, as long as faults are left."""
        if state.faults_left:
            for word, new in (*self._of_bridges(state), *self._of_others(state)):
                yield word, self._judged(new._replace(faults_left=state.faults_left - 1))

    # ---- a bridge

    def _bridge_moves(self, state: State, b: int) -> Iterator[Move]:
        me = state.bridges[b]
        yield from getattr(self, f"_{self._step(me).replace(' ', '_')}")(state, b, me)
        if not me.at:
            return
        if me.forgot and "send again" in self.pieces:
            yield "sends again", state.of(b, self._sent(me))
        if not (me.leased or state.acked or state.bridges[1 - b].leased):
            yield "pulls what it holds", state.of(b, me._replace(leased=True))
        if state.record == "short":
            yield "looks again, and keeps the record", state._replace(record="done")

    def _step(self, me: Bridge) -> str:
        return (*self.bridge, *DONE)[me.at]

    def _before(self, me: Bridge) -> str:
        """The step that it took last."""
        return self.bridge[me.at - 1] if 0 < me.at < len(self.bridge) else ""

    def _next(self, state: State, b: int) -> State:
        at = state.bridges[b].at + 1
        if at in (len(self.bridge), len(self.bridge) + len(DONE)):
            return self._forget(state, b)
        return state.of(b, state.bridges[b]._replace(at=at))

    def _forget(self, state: State, b: int) -> State:
        return state.without_chunk(b).of(b, REST)

    def _done(self, state: State, b: int) -> State:
        new = state.without_chunk(b)
        return new.of(b, new.bridges[b]._replace(at=len(self.bridge)))

    def _pull(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        if me.unread and "drop old answers" in self.pieces:
            yield "pull: an old answer, drop it", state.of(b, REST)
        elif me.unread:
            yield "pull: an old answer", self._next(state.of(b, REST), b)
        elif not (state.acked or state.bridges[1 - b].leased):
            yield "pull", self._next(state.of(b, me._replace(leased=True)), b)

    def _look_up(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        if state.record in ("done", "short"):
            yield "look up: done", self._done(state, b)
        elif state.record in ("", str(b)):
            yield "look up", self._next(state, b)
        else:
            yield "look up: another's, forget", self._forget(state, b)

    def _enqueue(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        yield "enqueue", self._next(state.of(b, self._sent(me)), b)

    def _sent(self, me: Bridge) -> Bridge:
        """With its content, in one step, in which goes what was said of that."""
        return me._replace(queued=True, forgot=False, blob=self.beside, content_lost=False)

    def _learn(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        if me.result:
            yield "learn", self._next(state.of(b, me._replace(forgot=False, blob=False)), b)
        elif me.content_lost and "send content again" in self.pieces:
            yield "learn: content lost, send it again", state.of(b, self._sent(me))

    def _claim(self, state: State, b: int, me: Bridge, word: str = "claim") -> Iterator[Move]:
        if me.stale and "forget what is stale" in self.pieces:
            yield f"{word}: stale, forget", self._forget(state, b)
        elif state.record in ("done", "short"):
            yield f"{word}: done", self._done(state, b)
        elif state.record in ("", str(b)):
            yield word, self._next(state._replace(record=str(b)), b)
        else:
            yield f"{word}: another's, forget", self._forget(state, b)

    def _renew(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        return self._claim(state, b, me, "renew")

    def _publish(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        yield "publish", self._next(state._replace(copies=state.copies + 1), b)

    def _record(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        noted = state._replace(record="done", copies=1 if self.silent else state.copies)
        yield "record", self._next(noted, b)

    def _acknowledge(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        yield "acknowledge", self._next(state._replace(acked=True), b)
        if not (me.leased or state.acked):
            yield "acknowledge, ignored since the lease is over", self._next(state, b)

    def _let_expire(self, state: State, b: int, me: Bridge) -> Iterator[Move]:
        if state.record != "done" or (me.lapsed and "sure leases" in self.pieces):
            yield "leave the record", self._next(state, b)
        else:
            yield "let expire", self._next(state._replace(record="short"), b)

    # ---- the worker, and time

    def _worker_moves(self, state: State) -> Iterator[Move]:
        if state.chunk is None:
            for b, me in enumerate(state.bridges):
                if me.queued:
                    taken = state.of(b, me._replace(queued=False, held=True))
                    read = me.blob or not self.beside
                    yield f"worker: take the chunk of {b}", taken._replace(chunk=b, worker=1, read=read)
            return
        step, me = self.worker[state.worker], state.bridges[state.chunk]
        if step == "ack":
            me = me._replace(held=False)
        elif state.read or me.blob or me.result:
            me = me._replace(result=True, content_lost=False)
        else:
            said = "say that content is lost" in self.pieces
            step, me = "store that content is lost", me._replace(content_lost=said)
        new = state.of(state.chunk, me)
        last = state.worker + 1 == len(self.worker)
        yield f"worker: {step}", new.at_rest() if last else new._replace(worker=state.worker + 1)

    def _time(self, state: State) -> Iterator[Move]:
        for b, me in enumerate(state.bridges):
            if me.held and state.chunk != b and "sweeper" in self.pieces:
                yield f"sweeper: give back the chunk of {b}", state.of(b, me._replace(held=False, queued=True))
            if me.blob:
                yield f"the content of {b} is gone", state.of(b, me._replace(blob=False))
        if state.record == "dead" and "claims lapse" in self.pieces:
            yield "the claim of a bridge that is gone lapses", state._replace(record="")
        if state.record == "short":
            # Whoever looked again in time has kept the record: what is left did not look.
            one, other = (me._replace(stale=True) if me.at else me for me in state.bridges)
            yield "ten minutes: the record lapses", state._replace(record="", bridges=(one, other))

    # ---- faults

    def _of_bridges(self, state: State) -> Iterator[Move]:
        for b, me in enumerate(state.bridges):
            if me.at:
                yield f"bridge {b}: CRASH", self._crash(state, b, me)
            if me.leased:
                lost = state.of(b, me._replace(leased=False, lapsed=True))
                yield f"bridge {b}: LEASE LOST", lost._replace(astray=True)
            if not (me.at or me.unread or state.acked or state.bridges[1 - b].leased):
                yield f"bridge {b}: STANDS STILL with an answer", state.of(b, me._replace(unread=True))
            if not (me.at or me.unread or state.acked) and state.bridges[1 - b].leased:
                copy = self._next(state.of(b, me._replace(leased=True)), b)
                yield f"bridge {b}: pull, a DUPLICATE", copy._replace(astray=True)
            if state.record == str(b):
                yield f"bridge {b}: CLAIM LOST", self._claim_lost(state, me)
            if self._step(me) == "publish":
                again = state.of(b, me._replace(at=self.bridge.index("claim")))
                new = self._excuse(again._replace(copies=state.copies + 1), Circumstance.UNANSWERED)
                yield f"bridge {b}: publish, UNANSWERED", new
            if self._step(me) == "record" and not self.silent:
                yield f"bridge {b}: record REFUSED", self._next(state._replace(lost_data=True), b)

    def _crash(self, state: State, b: int, me: Bridge) -> State:
        new = self._forget(state, b)._replace(astray=True)
        if state.record == str(b):
            new = new._replace(record="dead")
        return self._excuse(new, Circumstance.CRASH) if self._before(me) == "publish" else new

    def _claim_lost(self, state: State, me: Bridge) -> State:
        new = state._replace(record="", astray=True)
        return self._excuse(new, Circumstance.OVERSLEPT) if self._before(me) in ("renew", "publish") else new

    def _of_others(self, state: State) -> Iterator[Move]:
        if state.chunk is not None:
            yield "worker: CRASH", state.at_rest()
            me = state.bridges[state.chunk]
            if me.held:
                back = state.of(state.chunk, me._replace(held=False, queued=True))
                yield "sweeper: give back what a PAUSED worker runs", back
        one, other = (me._replace(**{**NO_CHUNK, "forgot": self._step(me) == "learn"}) for me in state.bridges)
        yield "FLUSHALL", state._replace(record="", bridges=(one, other), lost_data=True)

    # ---- judgement

    def finished(self, state: State) -> bool:
        return state.acked and state.bridges == (REST, REST)

    def wrong(self, state: State) -> str | None:
        if state.acked and not state.copies:
            return UNRECORDED if self.silent else LOST
        return TWICE if state.copies > 1 else None

    def _excuse(self, state: State, circumstance: Circumstance) -> State:
        return state._replace(excused=True) if circumstance in self.circumstances else state

    def _judged(self, state: State) -> State:
        if state.astray and state.lost_data:
            state = self._excuse(state, Circumstance.LOST_DATA)
        if state.excused:
            # What no invariant asks for any more: many states become one.
            return state._replace(astray=False, lost_data=False, copies=min(1, state.copies))
        return state

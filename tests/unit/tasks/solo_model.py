"""Solo mode for one chunk and two workers, as the graph of all its states: what Redis remembers of a chunk that was
lost, and what the worker that has it next makes of it.

At most one of its requests is poisonous: it ends the process whenever it comes to the device. The steps are data, in
the order in which the code takes them, so that other orders can be explored as well. Time is no number, as in
tests/unit/bridge/protocol_model.py.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import NamedTuple

from lowtide.tasks.losses import STRIKES_MAX

WORKER = ("look", "run", "store", "ack")
"""What a worker does with a chunk that it took."""

ALONE = ("mark", "submit", "absolve")
"""What it does with each request of a chunk that was lost, while it runs."""

PIECES = frozenset(
    {
        "reaper",
        "count losses",
        "store parts",
        "absolve at a drain",
        "keep what is done at a drain",
        "skip what is finished",
        "send again",
    }
)
"""What solo mode needs beside its steps."""

FAULTS = frozenset({"CRASH", "PAUSED", "DRAIN", "OVERDUE", "UNANSWERED", "REFUSED", "SECOND", "FLUSHALL"})
"""What may go wrong, by the word that tells it."""

WORKERS = (0, 1)
LOSSES_MAX = 12
"""As many as anybody counts: else a variation that ends nothing has no end of states."""
COPIES = (0, 1, 2)
"""Names for copies of the chunk: one that is sent again finds one that no worker runs."""

OK, GIVEN_UP = "ok", "given up"

BLAMED = "given up without three losses while it ran alone"
ENDLESS = "took more workers down than three while it ran alone"
AGAIN = "run again, though its outcome is stored"
OTHERWISE = "ended twice, and not in the same way"


class Circumstance(Enum):
    """In which less is promised."""

    TWOFOLD = "two have the chunk: a worker stood still until it was given to another, or it was sent a second time"
    UNCONFIRMED = (
        "Redis took a mark, or did not take an absolution, and the next worker was lost before it ran anything"
    )
    EMPTIED = "Redis was emptied while the request ran alone"


class Copy(NamedTuple):
    """A message with the chunk. `place`: "" (none), "queue", "dead" (in `unacked`, of a worker that is gone), or "0" or
    "1" (in `unacked`, of that worker). `again`: it says that somebody held it before.
    """

    place: str = ""
    again: bool = False


NOWHERE = Copy()


class Run(NamedTuple):
    """A worker with the chunk.

    `copy`: which one it took; `again`: that was held before. `at`: index of its next step. `after`: so many losses it
    found. `spent`: requests for which it found three strikes. `outcomes`: those that it has, "" for none. `step`: index
    of its next step with the request whose turn it is, the first without an outcome. `marked`: Redis has a mark of it.
    """

    copy: int
    again: bool
    at: int = 0
    after: int = 0
    spent: tuple[int, ...] = ()
    outcomes: tuple[str, ...] = ()
    step: int = 0
    marked: bool = False

    @property
    def turn(self) -> int:
        """The request whose turn it is."""
        return self.outcomes.index("")


class State(NamedTuple):
    """Everything at one moment.

    Redis has `copies`, `count` of losses, `marks` (for each request, after how many losses it ran alone), `parts` and
    `result`. `learned`: the bridge knows the result; `forgot`: Redis lost its data, and the bridge has yet to notice.
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
    count: int = 0
    result: tuple[str, ...] | None = None
    learned: bool = False
    forgot: bool = False
    twofold: bool = False
    emptied: bool = False
    wrong: str | None = None

    def of(self, w: int, run: Run | None) -> "State":
        """With worker `w` as it is now."""
        return self._replace(runs=_with(self.runs, w, run))

    def placed(self, c: int, place: str, *, again: bool = False) -> "State":
        """With copy `c` there."""
        return self._replace(copies=_with(self.copies, c, Copy(place=place, again=again) if place else NOWHERE))


Move = tuple[str, State]


@dataclass(frozen=True, kw_only=True)
class Model:
    """Solo mode, or a variation of it: another order of steps, pieces left out, circumstances not excused."""

    poison: int | None = 0
    requests: int = 2
    worker: Sequence[str] = WORKER
    alone: Sequence[str] = ALONE
    pieces: frozenset[str] = PIECES
    circumstances: frozenset[Circumstance] = frozenset(Circumstance)
    kinds: frozenset[str] = FAULTS
    faults: int = 2

    def start(self) -> State:
        none = (False,) * self.requests
        return State(
            copies=(Copy(place="queue"), NOWHERE, NOWHERE),
            runs=(None, None),
            marks=(frozenset(),) * self.requests,
            parts=none,
            losses=(0,) * self.requests,
            unsure=(0,) * self.requests,
            answered=none,
            faults_left=self.faults,
        )

    def wrong(self, state: State) -> str | None:
        return state.wrong

    def finished(self, state: State) -> bool:
        """Every request has ended, and nobody has the chunk."""
        return state.learned and state.runs == (None, None) and set(state.copies) == {NOWHERE}

    def key(self, state: State) -> Hashable:
        """Workers are equals, and so are copies, which are all that has names: the first two fields."""
        return _renamed(state.copies, state.runs), state[2:]

    def moves(self, state: State) -> Iterator[Move]:
        """What may happen next, faults aside."""
        for w in WORKERS:
            run = state.runs[w]
            yield from self._goes_on(state, w, run) if run else self._takes(state, w)
        for c, copy in enumerate(state.copies):
            if copy.place == "dead" and "reaper" in self.pieces:
                yield f"reaper: give back copy {c}", self._lost(state, c)
        if state.result and not state.learned:
            yield "bridge: learn", state._replace(learned=True, forgot=False)
        if state.forgot and "send again" in self.pieces:
            yield from self._send_again(state._replace(forgot=False), "send again")

    def faults_of(self, state: State) -> Iterator[Move]:
        """What may go wrong next, as long as faults are left and somebody waits."""
        if state.faults_left and not state.learned:
            for word, new in self._faults(state._replace(faults_left=state.faults_left - 1)):
                if any(kind in word for kind in self.kinds):
                    yield word, new

    # ---- a worker

    def _takes(self, state: State, w: int) -> Iterator[Move]:
        for c, copy in enumerate(state.copies):
            if copy.place != "queue":
                continue
            if copy.again and state.result and "skip what is finished" in self.pieces:
                yield f"worker {w}: take copy {c}: finished, ack", state.placed(c, "")
            else:
                new = state.of(w, Run(copy=c, again=copy.again)).placed(c, str(w), again=copy.again)
                yield f"worker {w}: take copy {c}", new._replace(twofold=state.twofold or None not in new.runs)

    def _goes_on(self, state: State, w: int, run: Run) -> Iterator[Move]:
        step = self.worker[run.at]
        if step == "look":
            yield f"worker {w}: look", self._looks(state, w, run)
        elif step == "store":
            yield f"worker {w}: store", self._next(self._stored(state, run.outcomes), w, run)
        elif step == "ack":
            held = state.copies[run.copy].place != "queue"
            yield f"worker {w}: ack", self._next(state.placed(run.copy, "") if held else state, w, run)
        elif "" not in run.outcomes:
            yield f"worker {w}: has all", self._next(state, w, run)
        elif not run.after:
            yield f"worker {w}: submit all", self._together(state, w, run)
        elif run.turn in run.spent:
            new = run._replace(outcomes=_with(run.outcomes, run.turn, GIVEN_UP))
            yield f"worker {w}: give up {run.turn}", state.of(w, new)
        else:
            yield f"worker {w}: {self.alone[run.step]} {run.turn}", self._with_one(state, w, run)

    def _next(self, state: State, w: int, run: Run) -> State:
        at = run.at + 1
        if at == len(self.worker):
            return state.of(w, None)
        if self.worker[run.at] == "run":
            run = run._replace(after=0, spent=())  # no more asked for: many states become one
        return state.of(w, run._replace(at=at))

    def _looks(self, state: State, w: int, run: Run) -> State:
        if not run.again:
            return self._next(state, w, run._replace(outcomes=("",) * self.requests))
        if state.result and "skip what is finished" in self.pieces:
            return state.of(w, run._replace(outcomes=state.result, at=self.worker.index("ack")))
        run = run._replace(outcomes=tuple(OK if part else "" for part in state.parts))
        if not state.count:
            return self._next(state, w, run)
        strikes = [sum(after < state.count for after in marks) for marks in state.marks]
        spent = [turn for turn, many in enumerate(strikes) if many >= STRIKES_MAX and not run.outcomes[turn]]
        new = self._next(state, w, run._replace(after=state.count, spent=tuple(spent)))
        return new._replace(wrong=self._blamed(state, w, spent))

    def _together(self, state: State, w: int, run: Run) -> State:
        left = [index for index, outcome in enumerate(run.outcomes) if not outcome]
        state = state._replace(wrong=self._again(state, *left))
        if self.poison in left:
            return self._crashed(state, w, run)
        return self._next(state, w, run._replace(outcomes=tuple(outcome or OK for outcome in run.outcomes)))

    def _with_one(self, state: State, w: int, run: Run) -> State:
        turn, step = run.turn, self.alone[run.step]
        if step == "mark":
            state, run = self._marked(state, turn, run), run._replace(marked=True)
        elif step == "absolve":
            state, run = self._absolved(state, turn, run), run._replace(marked=False)
        else:
            state = state._replace(wrong=self._again(state, turn) or self._endless(state, turn))
            if turn == self.poison:
                return self._crashed(state, w, run)
        if run.step + 1 < len(self.alone):
            return state.of(w, run._replace(step=run.step + 1))
        run = run._replace(outcomes=_with(run.outcomes, turn, OK), step=0, marked=False)
        return state.of(w, run)._replace(answered=_with(state.answered, turn, True))

    def _marked(self, state: State, turn: int, run: Run) -> State:
        return state._replace(marks=_with(state.marks, turn, state.marks[turn] | {run.after}))

    def _unmarked(self, state: State, turn: int, run: Run) -> State:
        return state._replace(marks=_with(state.marks, turn, state.marks[turn] - {run.after}))

    def _absolved(self, state: State, turn: int, run: Run) -> State:
        state = self._unmarked(state, turn, run)
        has_outcome = "submit" in self.alone[: run.step]
        return self._parted(state, [turn]) if has_outcome else state

    def _parted(self, state: State, done: Sequence[int]) -> State:
        if "store parts" not in self.pieces:
            return state
        return state._replace(parts=tuple(part or index in done for index, part in enumerate(state.parts)))

    def _stored(self, state: State, outcomes: tuple[str, ...]) -> State:
        same = state.result in (None, outcomes)
        wrong = None if same or self._excused(state.twofold, Circumstance.TWOFOLD) else OTHERWISE
        return state._replace(result=outcomes, answered=(True,) * len(outcomes), wrong=wrong)

    def _crashed(self, state: State, w: int, run: Run) -> State:
        if run.marked:
            state = self._lost_alone(state, run.turn)
        if state.copies[run.copy].place == str(w):
            state = state.placed(run.copy, "dead", again=state.copies[run.copy].again)
        return state.of(w, None)

    def _back(self, state: State, w: int, run: Run) -> State:
        """The task goes back unharmed, unless it was taken away meanwhile."""
        if state.copies[run.copy].place == str(w):
            state = state.placed(run.copy, "queue", again=True)
        return state.of(w, None)

    # ---- Redis

    def _lost(self, state: State, c: int) -> State:
        """Restored by a reaper, or by its worker's successor."""
        state = state.placed(c, "queue", again=True)
        return self._counted(state) if "count losses" in self.pieces else state

    def _counted(self, state: State) -> State:
        """Only the order of the counts matters: those that nothing refers to any more are left out."""
        found = {run.after for run in state.runs if run}.union(*state.marks) - {0}
        rank = {count: number for number, count in enumerate([0, *sorted(found)])}
        one, other = (run._replace(after=rank[run.after]) if run else None for run in state.runs)
        marks = tuple(frozenset(rank[after] for after in marks) for marks in state.marks)
        return state._replace(count=min(len(rank), LOSSES_MAX), runs=(one, other), marks=marks)

    def _send_again(self, state: State, word: str) -> Iterator[Move]:
        in_use = {run.copy for run in state.runs if run}
        if (free := next((c for c in COPIES if c not in in_use and state.copies[c] == NOWHERE), None)) is not None:
            yield f"bridge: {word}", state.placed(free, "queue", again=True)

    def _flushed(self, state: State) -> State:
        none = (False,) * self.requests
        return state._replace(
            copies=tuple(NOWHERE for _ in state.copies),
            count=0,
            marks=(frozenset(),) * self.requests,
            parts=none,
            result=None,
            losses=(0,) * self.requests,
            unsure=(0,) * self.requests,
            emptied=state.emptied or any(run and run.after for run in state.runs),
            answered=none,
            forgot=True,
        )

    # ---- faults

    def _faults(self, state: State) -> Iterator[Move]:
        for w in WORKERS:
            if run := state.runs[w]:
                yield from self._of_worker(state, w, run)
        if state.copies.count(NOWHERE) > 1:
            yield from self._send_again(state._replace(twofold=True), "send a SECOND copy")
        yield "FLUSHALL", self._flushed(state)

    def _of_worker(self, state: State, w: int, run: Run) -> Iterator[Move]:
        yield f"worker {w}: CRASH", self._crashed(state, w, run)
        if state.copies[run.copy].place == str(w):
            back = self._lost(state, run.copy)._replace(twofold=True)
            yield f"reaper: give back copy {run.copy}, which PAUSED worker {w} runs", back
        if self.worker[run.at] != "run" or "" not in run.outcomes:
            return
        if not run.after:
            yield from self._drains(state, w, run)
        elif run.turn not in run.spent:
            yield from self._alone(state, w, run)

    def _drains(self, state: State, w: int, run: Run) -> Iterator[Move]:
        """With the first requests done, as many as may be."""
        left = [index for index, outcome in enumerate(run.outcomes) if not outcome]
        for count in range(len(left)):
            done = left[:count]
            if self.poison in done:
                return
            kept = state
            if "keep what is done at a drain" in self.pieces:
                kept = self._parted(state, done)
            answered = tuple(had or index in done for index, had in enumerate(kept.answered))
            back = self._back(kept._replace(answered=answered), w, run)
            yield f"worker {w}: DRAIN, with {done} done", back
            yield f"worker {w}: a batch OVERDUE, with {done} done", self._counted(back)

    def _alone(self, state: State, w: int, run: Run) -> Iterator[Move]:
        turn, step = run.turn, self.alone[run.step]
        if step == "submit":
            absolved = state
            if "absolve at a drain" in self.pieces:
                absolved = self._unmarked(state, turn, run)
            yield f"worker {w}: DRAIN, {turn} not done", self._back(absolved, w, run)
        elif step == "mark":
            taken = self._unconfirmed(self._marked(state, turn, run), turn)
            yield f"worker {w}: mark {turn}, UNANSWERED", self._back(taken, w, run)
        elif run.marked:
            yield f"worker {w}: absolve {turn}, REFUSED", self._back(self._unconfirmed(state, turn), w, run)

    # ---- judgement

    def _excused(self, it_is_so: bool, circumstance: Circumstance) -> bool:
        return it_is_so and circumstance in self.circumstances

    def _lost_alone(self, state: State, turn: int) -> State:
        # Three are as many as anybody asks for.
        return state._replace(losses=_with(state.losses, turn, min(state.losses[turn] + 1, STRIKES_MAX)))

    def _unconfirmed(self, state: State, turn: int) -> State:
        """The mark is a strike if the next worker is lost before it runs the request."""
        if Circumstance.UNCONFIRMED not in self.circumstances:
            return state
        return state._replace(unsure=_with(state.unsure, turn, min(state.unsure[turn] + 1, STRIKES_MAX)))

    def _blamed(self, state: State, w: int, spent: Iterable[int]) -> str | None:
        """Each strike is a loss or may be one; or the request runs alone in the other worker, too."""
        other = state.runs[1 - w]
        at = other.turn if other and other.marked and self._excused(state.twofold, Circumstance.TWOFOLD) else None
        few = any(state.losses[turn] + state.unsure[turn] + (turn == at) < STRIKES_MAX for turn in spent)
        return BLAMED if few else None

    def _endless(self, state: State, turn: int) -> str | None:
        excused = self._excused(state.twofold, Circumstance.TWOFOLD)
        excused |= self._excused(state.emptied, Circumstance.EMPTIED)
        return ENDLESS if state.losses[turn] >= STRIKES_MAX and not excused else None

    def _again(self, state: State, *turns: int) -> str | None:
        stored = any(state.answered[turn] for turn in turns)
        return AGAIN if stored and not self._excused(state.twofold, Circumstance.TWOFOLD) else None


def _with(items: tuple, index: int, item: object) -> tuple:
    return (*items[:index], item, *items[index + 1 :])


@cache
def _renamed(copies: tuple[Copy, ...], runs: tuple[Run | None, ...]) -> Hashable:
    """The same, whatever the workers and the copies are called."""
    return min(_seen_from(workers, copies, runs) for workers in (WORKERS, WORKERS[::-1]))


def _seen_from(workers: Sequence[int], copies: Sequence[Copy], runs: Sequence[Run | None]) -> tuple[tuple, ...]:
    """The workers are called by their turns, and the copies by who has them."""
    places = {str(w): str(turn) for turn, w in enumerate(workers)}
    found = (
        (places.get(place, place), again, *(run is not None and run.copy == c for run in (runs[w] for w in workers)))
        for c, (place, again) in enumerate(copies)
    )
    return (tuple(sorted(found)), *(run[1:] if run else () for run in (runs[w] for w in workers)))

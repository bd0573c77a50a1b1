"""Solo mode: what workers, bridges and Redis do, for tests/unit/tasks/running/solo_model.py."""

from collections.abc import Iterator, Sequence

from lowtide.tasks.running.losses import STRAY_MAX, STRIKES_MAX
from tests.unit.tasks.running.solo_state import (
    CONTENT_LOST,
    COPIES,
    GIVEN_UP,
    LOSSES_MAX,
    NOWHERE,
    OK,
    Circumstance,
    Move,
    Run,
    State,
    all_replaced,
    replaced,
)
from tests.unit.tasks.running.solo_variation import OTHERWISE, UNDONE, Variation


class Steps(Variation):
    """What may happen next, faults aside."""

    # ---- a worker

    def _takes(self, state: State, w: int) -> Iterator[Move]:
        for c, copy in enumerate(state.copies):
            if copy.place != "queue":
                continue
            if state.noted and state.result and "skip what is finished" in self.pieces:
                yield f"worker {w}: take copy {c}: finished, ack", state.placed(c, "")
            else:
                new = state.of(w, Run(copy=c, again=state.noted)).placed(c, str(w))
                yield f"worker {w}: take copy {c}", new._replace(twofold=state.twofold or None not in new.runs)

    def _goes_on(self, state: State, w: int, run: Run) -> Iterator[Move]:
        step = self.worker[run.at]
        if step == "look":
            yield f"worker {w}: look", self._looks(state, w, run)
        elif step == "fetch":
            yield f"worker {w}: fetch", self._fetches(state, w, run)
        elif step == "store":
            yield f"worker {w}: store", self._next(self._stored(state, run.outcomes), w, run)
        elif step == "ack":
            own = state.copies[run.copy].place == str(w)
            yield f"worker {w}: ack", self._next(state.placed(run.copy, "") if own else state, w, run)
        elif "" not in run.outcomes:
            yield f"worker {w}: has all", self._next(state, w, run)
        elif not run.after:
            yield f"worker {w}: submit all", self._together(state, w, run)
        elif run.turn in run.spent:
            new = run._replace(outcomes=replaced(run.outcomes, run.turn, GIVEN_UP))
            yield f"worker {w}: give up {run.turn}", state.of(w, new)
        else:
            members = " ".join(map(str, self._members(run)))
            yield f"worker {w}: {self.alone[run.step]} {members}", self._with_one(state, w, run)

    def _next(self, state: State, w: int, run: Run) -> State:
        at = run.at + 1
        if at == len(self.worker):
            return state.of(w, None)
        # What is no more asked for: many states become one.
        if self.worker[run.at] == "look":
            run = run._replace(again=False)
        elif self.worker[run.at] == "run":
            run = run._replace(after=0, spent=(), split=(), within=False)
        return state.of(w, run._replace(at=at))

    def _looks(self, state: State, w: int, run: Run) -> State:
        if not run.again:
            return self._next(state, w, run._replace(outcomes=("",) * self.requests))
        if state.result and "skip what is finished" in self.pieces:
            return state.of(w, run._replace(outcomes=state.result, at=self.worker.index("ack")))
        run = run._replace(outcomes=tuple(OK if part else "" for part in state.parts))
        if not state.count:
            return self._next(state, w, run)
        lost = [sum(after < state.count for after in marks) for marks in state.marks]
        strikes, groups = lost[: self.requests], range(self.requests, len(self.units))
        spent = [turn for turn, many in enumerate(strikes) if many >= STRIKES_MAX and not run.outcomes[turn]]
        split = [unit for unit in groups if lost[unit]] if "split what was lost" in self.pieces else []
        within = state.stray >= STRAY_MAX and "fetch within the mark" in self.pieces
        run = run._replace(after=state.count, spent=tuple(spent), split=tuple(split), within=within)
        return self._next(state, w, run)._replace(wrong=self._blamed(state, w, spent))

    def _fetches(self, state: State, w: int, run: Run) -> State:
        """Of a chunk that was lost, before its worker waits until nothing else runs."""
        left = [index for index, outcome in enumerate(run.outcomes) if not outcome and index not in run.spent]
        if left and not state.blob:
            return self._content_lost(state, w, run)
        if self.poisons == "fetch" and self.poison in left and run.after and not run.within:
            return self._crashed(state, w, run)
        return self._next(state, w, run)

    def _content_lost(self, state: State, w: int, run: Run) -> State:
        """A script stores it, unless there is a result."""
        if state.result is None or "look for a result" not in self.pieces:
            state = state._replace(wrong=UNDONE if state.result not in (None, CONTENT_LOST) else state.wrong)
            state = state._replace(result=CONTENT_LOST)
        return state.of(w, run._replace(at=self.worker.index("ack"), after=0, spent=(), split=(), within=False))

    def _content_again(self, state: State) -> Iterator[Move]:
        """No loss, no strike, no end: the chunk goes once more."""
        if state.learned or "send content again" not in self.pieces:
            return
        left = any(copy.place in ("queue", "dead") for copy in state.copies)
        state = state._replace(forgot=False, twofold=state.twofold or left)
        yield from self._send_again(state, "send the chunk again, with its content")

    def _unit(self, run: Run) -> int:
        """Which one has its turn: the largest group of the request that was not lost, if it is of more than one."""
        groups = range(self.requests, len(self.units))
        group = next((unit for unit in groups if run.turn in self.units[unit] and unit not in run.split), run.turn)
        return group if len(self._left(run, group)) > 1 else run.turn

    def _left(self, run: Run, unit: int) -> list[int]:
        return [index for index in self.units[unit] if not run.outcomes[index] and index not in run.spent]

    def _members(self, run: Run) -> list[int]:
        """The requests of the group whose turn it is."""
        return self._left(run, self._unit(run))

    def _together(self, state: State, w: int, run: Run) -> State:
        left = [index for index, outcome in enumerate(run.outcomes) if not outcome]
        state = state._replace(wrong=self._again(state, *left))
        if self.poison in left:
            return self._crashed(state, w, run)
        return self._next(state, w, run._replace(outcomes=tuple(outcome or OK for outcome in run.outcomes)))

    def _with_one(self, state: State, w: int, run: Run) -> State:
        members, step = self._members(run), self.alone[run.step]
        if step == "mark":
            state, run = self._marked(state, run), run._replace(marked=True)
        elif step == "absolve":
            state, run = self._absolved(state, run, members), run._replace(marked=False)
        else:
            state = state._replace(wrong=self._again(state, *members) or self._endless(state, members))
            if self.poison in members:
                return self._crashed(state, w, run)
        if run.step + 1 < len(self.alone):
            return state.of(w, run._replace(step=run.step + 1))
        run = run._replace(outcomes=all_replaced(run.outcomes, members, OK), step=0, marked=False)
        return state.of(w, run)._replace(answered=all_replaced(state.answered, members, True))

    def _marked(self, state: State, run: Run) -> State:
        unit = self._unit(run)
        return state._replace(marks=replaced(state.marks, unit, state.marks[unit] | {run.after}))

    def _unmarked(self, state: State, run: Run) -> State:
        unit = self._unit(run)
        return state._replace(marks=replaced(state.marks, unit, state.marks[unit] - {run.after}))

    def _absolved(self, state: State, run: Run, members: Sequence[int]) -> State:
        state = self._unmarked(state, run)
        has_outcome = "submit" in self.alone[: run.step]
        return self._parted(state, members) if has_outcome else state

    def _parted(self, state: State, done: Sequence[int]) -> State:
        if "store parts" not in self.pieces:
            return state
        return state._replace(parts=tuple(part or index in done for index, part in enumerate(state.parts)))

    def _stored(self, state: State, outcomes: tuple[str, ...]) -> State:
        same = state.result in (None, CONTENT_LOST, outcomes)
        wrong = None if same or self._excused(state.twofold, Circumstance.TWOFOLD) else OTHERWISE
        return state._replace(result=outcomes, answered=(True,) * len(outcomes), wrong=wrong)

    def _crashed(self, state: State, w: int, run: Run) -> State:
        if run.marked and self._members(run) == [run.turn]:
            state = self._lost_alone(state, run.turn)
        if state.copies[run.copy].place == str(w):
            state = state.placed(run.copy, "dead")
        return state.of(w, None)

    def _back(self, state: State, w: int, run: Run) -> State:
        """The task goes back unharmed, unless it was taken away meanwhile."""
        if state.copies[run.copy].place == str(w):
            state = self._put_back(state, run.copy)
            state = state._replace(noted=state.noted or "note what is handed back" in self.pieces)
        return state.of(w, None)

    # ---- Redis

    def _lost(self, state: State, c: int) -> State:
        """Given back by a sweeper, or by its worker's successor."""
        state = self._put_back(state, c)._replace(noted=True)
        return self._counted(state) if "count losses" in self.pieces else state

    def _put_back(self, state: State, c: int) -> State:
        """To the queue. There are two from then on, if it was sent again meanwhile."""
        others = any(copy.place for other, copy in enumerate(state.copies) if other != c)
        return state.placed(c, "queue")._replace(twofold=state.twofold or others)

    def _counted(self, state: State) -> State:
        """Only the order of the counts matters: those that nothing refers to any more are left out."""
        explained = self.poisons != "fetch" or any(state.count in marks for marks in state.marks)
        stray = state.stray if explained else min(state.stray + 1, STRAY_MAX)
        found = {run.after for run in state.runs if run}.union(*state.marks) - {0}
        rank = {count: number for number, count in enumerate([0, *sorted(found)])}
        one, other = (run._replace(after=rank[run.after]) if run else None for run in state.runs)
        marks = tuple(frozenset(rank[after] for after in marks) for marks in state.marks)
        count = min(len(rank), LOSSES_MAX)
        return state._replace(noted=True, count=count, stray=stray, runs=(one, other), marks=marks)

    def _send_again(self, state: State, word: str) -> Iterator[Move]:
        in_use = {run.copy for run in state.runs if run}
        if (free := next((c for c in COPIES if c not in in_use and state.copies[c] == NOWHERE), None)) is not None:
            news = state.result == CONTENT_LOST and "drop the news" in self.pieces
            noted = state.noted or "note what is sent again" in self.pieces
            result = None if news else state.result
            yield f"bridge: {word}", state.placed(free, "queue")._replace(blob=True, noted=noted, result=result)

    def _flushed(self, state: State) -> State:
        none = (False,) * self.requests
        return state._replace(
            copies=tuple(NOWHERE for _ in state.copies),
            noted=False,
            count=0,
            stray=0,
            blob=False,
            marks=(frozenset(),) * len(self.units),
            parts=none,
            result=None,
            losses=(0,) * self.requests,
            unsure=(0,) * self.requests,
            emptied=state.emptied or any(run and run.after for run in state.runs),
            answered=none,
            forgot=True,
        )

"""Solo mode for one chunk and two workers, as the graph of all its states: what Redis remembers of a chunk that was
lost, and what the worker that has it next makes of it.

At most one of its requests is poisonous: it ends the process whenever it comes to the device, or whenever its content
is fetched. The steps are data, in the order in which the code takes them, so that other orders can be explored as well.
Time is no number, as in tests/unit/bridge/protocol_model.py. How a chunk is held and given back, by a sweeper or by a
successor in the same slot, is tests/unit/tasks/held/held_model.py.

After a loss the requests run in groups, one group at a time. A group leaves a mark, as a request that runs alone does;
if it was lost, its requests run in groups of the next level, and at last one by one. That is as safe as one by one from
the start:

- An innocent request is given up only after three losses while it ran alone: the mark of a group is no strike.
- The poisonous one is given up after a bounded number of losses. Each leaves the mark of a group, which is then split
  for good, or a strike.
- A loss that no mark explains befell a process that fetched, or was an accident. After the third of them content is
  fetched within the mark: else a request whose content ends the process would never be found.
- A loss costs the neighbours nothing that they have: outcomes are kept group by group.

Each level of groups costs one loss more when there is a poisonous request, and saves runs when there is none, which is
the rule. One level, of √n of n requests, has the fewest runs of all that cost one loss.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from tests.unit.tasks.running.solo_state import (
    CONTENT_LOST,
    NOWHERE,
    WORKERS,
    Copy,
    Move,
    Run,
    State,
    all_replaced,
    renamed,
)
from tests.unit.tasks.running.solo_steps import Steps

FAULTS = frozenset({"CRASH", "PAUSED", "DRAIN", "OVERDUE", "UNANSWERED", "REFUSED", "SECOND", "BLOB", "FLUSHALL"})
"""What may go wrong, by the word that tells it."""


@dataclass(frozen=True, kw_only=True)
class Model(Steps):
    """Solo mode, or a variation of it, and what may go wrong."""

    kinds: frozenset[str] = FAULTS
    faults: int = 2

    def start(self) -> State:
        none = (False,) * self.requests
        return State(
            copies=(Copy(place="queue"), NOWHERE, NOWHERE),
            runs=(None, None),
            marks=(frozenset(),) * len(self.units),
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
        return renamed(state.copies, state.runs), state[2:]

    def moves(self, state: State) -> Iterator[Move]:
        """What may happen next, faults aside."""
        for w in WORKERS:
            run = state.runs[w]
            yield from self._goes_on(state, w, run) if run else self._takes(state, w)
        for c, copy in enumerate(state.copies):
            if copy.place == "dead" and "sweeper" in self.pieces:
                yield f"sweeper: give back copy {c}", self._lost(state, c)
        if state.result == CONTENT_LOST:
            yield from self._content_again(state)
        elif state.result and not state.learned:
            yield "bridge: learn", state._replace(learned=True, forgot=False)
        if state.forgot and "send again" in self.pieces:
            yield from self._send_again(state._replace(forgot=False), "send again")

    def faults_of(self, state: State) -> Iterator[Move]:
        """What may go wrong next, as long as faults are left and somebody waits."""
        if state.faults_left and not state.learned:
            for word, new in self._faults(state._replace(faults_left=state.faults_left - 1)):
                if any(kind in word for kind in self.kinds):
                    yield word, new

    # ---- faults

    def _faults(self, state: State) -> Iterator[Move]:
        for w in WORKERS:
            if run := state.runs[w]:
                yield from self._of_worker(state, w, run)
        if state.copies.count(NOWHERE) > 1:
            yield from self._send_again(state._replace(twofold=True), "send a SECOND copy")
        if state.blob:
            yield "BLOB gone", state._replace(blob=False)
        yield "FLUSHALL", self._flushed(state)

    def _of_worker(self, state: State, w: int, run: Run) -> Iterator[Move]:
        yield f"worker {w}: CRASH", self._crashed(state, w, run)
        if state.copies[run.copy].place == str(w):
            back = self._lost(state, run.copy)._replace(twofold=True)
            yield f"sweeper: give back copy {run.copy}, which PAUSED worker {w} runs", back
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
        members, step = self._members(run), self.alone[run.step]
        alone = members == [run.turn]
        who = " ".join(map(str, members))
        if step == "submit":
            yield from self._stopped(state, w, run, members)
        elif step == "mark":
            taken = self._marked(state, run)
            taken = self._unconfirmed(taken, run.turn) if alone else taken
            yield f"worker {w}: mark {who}, UNANSWERED", self._back(taken, w, run)
        elif run.marked:
            kept = self._unconfirmed(state, run.turn) if alone else state
            yield f"worker {w}: absolve {who}, REFUSED", self._back(kept, w, run)

    def _stopped(self, state: State, w: int, run: Run, members: Sequence[int]) -> Iterator[Move]:
        """In the middle of a group, with the first of it done, as many as may be."""
        for count in range(len(members)):
            done, left = members[:count], members[count:]
            if self.poison in done:
                return
            kept = self._parted(state, done) if "keep what is done at a drain" in self.pieces else state
            kept = kept._replace(answered=all_replaced(kept.answered, done, True))
            absolved = self._unmarked(kept, run) if "absolve at a drain" in self.pieces else kept
            yield f"worker {w}: DRAIN, {' '.join(map(str, left))} not done", self._back(absolved, w, run)
            if len(members) > 1:
                late = self._counted(self._back(kept, w, run))
                yield f"worker {w}: a group OVERDUE, with {done} done", late

"""`Standing`: whether this worker is well, in doubt of itself or suspect, and what follows from that."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from lowtide.tasks.held.heartbeat import BEAT_S
from lowtide.tasks.wire.outcome import Outcome
from lowtide.workers.suspicion.rule import MOST, OK, Charge, Counts, Judgement, verdict
from lowtide.workers.suspicion.tally import OutcomeTally, kind_of

log = logging.getLogger(__name__)


class Phase(Enum):
    """What each means for the work."""

    WELL = "takes what there is room for"
    DOUBT = "takes a task a second, and fails five requests of it, until it is known whose fault that is"
    SUSPECT = "takes one task after a pause that grows, and hands back what it would fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds.

    `between_s`: from one task to the next while in doubt. `others_s`: by then each of the others has told what it did
    up to the charge, so what it tells later is news. `doubt_s`: a doubt without a verdict ends. `calm_s`: nothing is
    charged for so long after a charge was dropped; twice as long each time that the fleet was the reason. `pause_s`: a
    suspect's first pause, twice as long after each task that it fails. Who was well for `forget_s` begins anew.
    """

    between_s: float = 1.0
    others_s: float = BEAT_S + 1.0
    look_s: float = 2.0
    doubt_s: float = 60.0
    calm_s: float = 10.0
    calm_max_s: float = 600.0
    pause_s: float = 5.0
    pause_max_s: float = 300.0
    suspect_look_s: float = 10.0
    forget_s: float = 1200.0


FAILS_A_TASK = 5
"""In doubt. What more of a task of many requests would fail so is handed back: others may answer it, and if they
don't, it is done after some more rounds.
"""

USUAL = Times()
NO_CHARGE = Charge(model="", kind="")
NOTHING = Counts()


class Others(Protocol):
    """See `lowtide.workers.suspicion.peers`."""

    def mark(self) -> None:
        """Begin to count."""

    def since_mark(self, model: str) -> Counts:
        """What others did since."""

    def serving(self, model: str) -> bool:
        """Whether there are any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingState:
    """As of one moment. `before`: our counts of the charge's model when the phase began, or with the last failure of a
    suspect. `pause_s`: between the last outcome and the next task.
    """

    phase: Phase
    since_s: float
    charge: Charge = NO_CHARGE
    before: Counts = NOTHING
    pause_s: float = 0.0
    look_at_s: float = 0.0
    marked: bool = False
    reason: str | None = None


class Standing:
    """`note`, `limit`, `reason` and `refuses` from any thread, `turn` from one."""

    def __init__(
        self,
        tally: OutcomeTally,
        *,
        times: Times = USUAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tally = tally
        self._times = times
        self._clock = clock
        self._state = StandingState(phase=Phase.WELL, since_s=clock())
        self._calm_until_s = 0.0
        self._calm_s = times.calm_s
        self._fails_since_s = -math.inf
        self._fails = 0
        self._pause_s = times.pause_s

    @property
    def reason(self) -> str | None:
        """Why this worker is suspect, as a sentence; None as a rule."""
        return self._state.reason

    @property
    def outcomes(self) -> dict[str, dict[str, int]]:
        """Model → kind → count since the process began: what others compare theirs with."""
        return self._tally.everything()

    def limit(self) -> int | None:
        """How many tasks may be held at once; None: as many as there is room for."""
        state = self._state
        if state.phase is Phase.WELL:
            return 0 if self._tally.charge and self._is_heard(state) else None  # until the next turn
        return 1 if self._clock() >= max(state.since_s, self._tally.last_s) + state.pause_s else 0

    def refuses(self) -> bool:
        """Whether requests of a task that was taken before it was suspect are handed back untried."""
        return self._state.phase is Phase.SUSPECT and self.limit() == 0

    def note(self, model: str, outcome: Outcome) -> bool:
        """A request of `model` ended. False when nobody shall get this from here, and it is handed back."""
        kind = kind_of(outcome)
        if kind is None:
            return True
        self._tally.note(model, kind)
        state = self._state
        if kind == OK or state.phase is Phase.SUSPECT:
            return kind == OK
        charge = state.charge if state.phase is Phase.DOUBT else self._tally.charge_of(model)
        return charge != Charge(model=model, kind=kind) or not self._is_heard(state) or self._may_fail()

    def wants_turn(self) -> bool:
        """Whether a charge, or the phase, asks for a `turn` soon."""
        return self._tally.charge is not None or self._state.phase is not Phase.WELL

    def turn(self, others: Others) -> bool:
        """Go on, by what is known now. True when it became suspect. Raises what `others` raise, and is as it was."""
        state, now_s = self._state, self._clock()
        if state.phase is Phase.WELL:
            self._charge(others, now_s)
        elif state.phase is Phase.DOUBT:
            self._judge(state, others, now_s)
        else:
            self._try_again(state, others, now_s)
        return state.phase is not Phase.SUSPECT and self._state.phase is Phase.SUSPECT

    def _is_heard(self, state: StandingState) -> bool:
        return state.phase is not Phase.WELL or self._clock() >= self._calm_until_s

    def _may_fail(self) -> bool:
        """One more, since the last pause between tasks. Threads that ask at once may get one too many."""
        now_s = self._clock()
        if now_s >= self._fails_since_s + self._times.between_s:
            self._fails_since_s, self._fails = now_s, 0
        self._fails += 1
        return self._fails <= FAILS_A_TASK

    def _charge(self, others: Others, now_s: float) -> None:
        charge = self._tally.charge
        if charge is None or not self._is_heard(self._state):
            return
        if now_s - self._state.since_s >= self._times.forget_s:
            self._calm_s, self._pause_s = self._times.calm_s, self._times.pause_s
        self._state = StandingState(
            phase=Phase.DOUBT,
            since_s=now_s,
            charge=charge,
            before=self._tally.counts(charge.model),
            pause_s=self._times.between_s,
            look_at_s=now_s + self._times.others_s,
        )
        log.info("in doubt: nearly all of the last requests of %s failed with %s", charge.model, charge.kind)
        others.mark()
        if not others.serving(charge.model):
            self._drop("no other worker answers them")

    def _judge(self, state: StandingState, others: Others, now_s: float) -> None:
        if self._tally.charge_of(state.charge.model) != state.charge:
            log.info("in doubt no more: others ended otherwise")
            self._be_well(calm_s=self._times.calm_s)
        elif now_s >= state.since_s + self._times.doubt_s:
            self._drop("nothing shows whose fault it is")
        elif now_s < state.look_at_s:
            return
        elif not state.marked:
            others.mark()
            self._state = replace(state, marked=True, look_at_s=now_s + self._times.look_s)
        else:
            mine = self._tally.counts(state.charge.model).since(state.before)
            theirs = others.since_mark(state.charge.model)
            self._state = replace(state, look_at_s=now_s + self._times.look_s)
            found = verdict(state.charge.kind, mine=mine, others=theirs)
            if found is Judgement.CLEARED:
                self._drop("it is no fault of this worker alone")
            elif found is Judgement.SUSPECT:
                self._suspect(state, mine, theirs, now_s)

    def _suspect(self, state: StandingState, mine: Counts, theirs: Counts, now_s: float) -> None:
        charge = state.charge
        reason = (
            f"{mine.of(charge.kind)} of the last {mine.total} requests of {charge.model} failed here with "
            f"{charge.kind}, while other workers answered {theirs.of(OK)} and failed {theirs.of(charge.kind)} so"
        )
        log.error("this worker is suspect, and takes one task at a time, after pauses: %s", reason)
        self._state = replace(
            state,
            phase=Phase.SUSPECT,
            since_s=now_s,
            before=self._tally.counts(charge.model),
            pause_s=self._pause_s,
            look_at_s=now_s + self._times.suspect_look_s,
            reason=reason,
        )

    def _try_again(self, state: StandingState, others: Others, now_s: float) -> None:
        if now_s < self._tally.last_s + self._times.between_s:
            return  # a task of many requests may be about to show more
        now = self._tally.counts(state.charge.model)
        tried = now.since(state.before)
        if tried.total and tried.of(OK) >= MOST * tried.total:
            log.warning("this worker is well again after %.0f s", now_s - state.since_s)
            self._be_well(calm_s=0.0)
            return
        if tried.total:
            self._pause_s = min(2 * state.pause_s, self._times.pause_max_s)
            state = self._state = replace(state, before=now, pause_s=self._pause_s)
        if now_s >= state.look_at_s:
            self._state = replace(state, look_at_s=now_s + self._times.suspect_look_s)
            self._look_again(state, others)

    def _look_again(self, state: StandingState, others: Others) -> None:
        """When others fail alike, or there are none any more, it is the turn of those who asked to get an answer."""
        theirs = others.since_mark(state.charge.model)
        others.mark()
        alike = verdict(state.charge.kind, mine=NOTHING, others=theirs) is Judgement.CLEARED
        if alike or not others.serving(state.charge.model):
            self._drop("others fail alike" if alike else "no other worker answers them any more")

    def _drop(self, why: str) -> None:
        """What failed is not this worker's fault, as far as can be known."""
        log.info("in doubt no more: %s", why)
        calm_s, self._calm_s = self._calm_s, min(2 * self._calm_s, self._times.calm_max_s)
        self._be_well(calm_s=calm_s)

    def _be_well(self, *, calm_s: float) -> None:
        now_s = self._clock()
        self._tally.start_afresh()
        self._calm_until_s = now_s + calm_s
        self._state = StandingState(phase=Phase.WELL, since_s=now_s)

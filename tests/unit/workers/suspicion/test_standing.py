from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from redis import ConnectionError as RedisGone

from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.workers.suspicion.rule import RECENT, Counts
from lowtide.workers.suspicion.standing import FAILS_A_TASK, Standing, Times
from lowtide.workers.suspicion.tally import OutcomeTally

ANSWERED = Outcome(status=Status.OK, outputs=[1])
FORBIDDEN = Outcome.failed("forbidden", "the bucket is not yours")
TIMES = Times()


@dataclass
class Fleet:
    """Other workers, as a test lets them be."""

    there: bool = True
    away: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    before: Counts = field(default_factory=Counts)

    def mark(self) -> None:
        self._ask()
        self.before = Counts(dict(self.counts))

    def since_mark(self, model: str) -> Counts:
        self._ask()
        return Counts(dict(self.counts)).since(self.before)

    def serving(self, model: str) -> bool:
        return self.there

    def _ask(self) -> None:
        if self.away:
            raise RedisGone


class Worker:
    """A worker's standing, its time, and its turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.fleet = Fleet()
        self.standing = Standing(OutcomeTally(clock=lambda: self.now_s), times=TIMES, clock=lambda: self.now_s)
        self.became_suspect = 0

    def notes(self, outcome: Outcome, times: int = 1) -> list[bool]:
        return [self.standing.note("m", outcome) for _ in range(times)]

    def passes(self, seconds: float, *, mine: Outcome | None = None, **others: int) -> None:
        """Second by second: what this worker makes of a task whenever it may take one, and what others do."""
        for _ in range(round(seconds)):
            self.now_s += 1.0
            self.fleet.counts.update(others)
            if mine and self.standing.limit() != 0:
                self.notes(mine)
            if self.standing.wants_turn():
                self.became_suspect += self.standing.turn(self.fleet)

    def becomes_suspect(self) -> None:
        self.notes(FORBIDDEN, RECENT)
        until_s = self.now_s + 20
        while not self.standing.reason and self.now_s < until_s:
            self.passes(1, mine=FORBIDDEN, ok=50)
        assert self.standing.reason


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def suspect(worker: Worker) -> Worker:
    worker.becomes_suspect()
    return worker


def test_who_is_well_takes_what_there_is_room_for(worker: Worker) -> None:
    worker.notes(ANSWERED, 100)
    worker.passes(10, mine=ANSWERED)
    assert worker.standing.limit() is None
    assert worker.standing.reason is None


def test_in_doubt_a_worker_takes_a_task_a_second_and_answers(worker: Worker) -> None:
    worker.notes(FORBIDDEN, RECENT)
    worker.standing.turn(worker.fleet)
    assert worker.standing.limit() == 0
    worker.now_s += TIMES.between_s
    assert worker.standing.limit() == 1
    assert worker.notes(FORBIDDEN) == [True]
    assert worker.standing.limit() == 0
    assert worker.standing.reason is None


def test_in_doubt_a_task_of_many_requests_fails_few_and_the_rest_goes_back(worker: Worker) -> None:
    worker.notes(FORBIDDEN, RECENT)
    worker.standing.turn(worker.fleet)
    for _ in range(3):
        worker.now_s += TIMES.between_s
        assert worker.notes(FORBIDDEN, 256).count(True) == FAILS_A_TASK
    assert worker.notes(Outcome.failed("not_found", "no")) == [True]
    assert worker.notes(ANSWERED) == [True]


def test_a_charge_is_heard_before_the_next_turn(worker: Worker) -> None:
    assert worker.notes(FORBIDDEN, 1000).count(True) == RECENT - 1 + FAILS_A_TASK
    assert worker.standing.limit() == 0


def test_who_goes_on_failing_what_others_answer_is_suspect_and_says_why(suspect: Worker) -> None:
    assert suspect.became_suspect == 1
    assert "requests of m failed here with forbidden, while other workers answered" in str(suspect.standing.reason)


def test_a_suspect_hands_back_what_it_would_fail_and_answers_the_rest(suspect: Worker) -> None:
    assert suspect.notes(FORBIDDEN) == [False]
    assert suspect.notes(Outcome.failed("unavailable", "503", retry=True)) == [False]
    assert suspect.notes(Outcome.failed("invalid_request", "no")) == [True]
    assert suspect.notes(ANSWERED) == [True]


def test_a_suspect_refuses_what_it_holds_until_its_pause_is_over(suspect: Worker) -> None:
    suspect.notes(FORBIDDEN)
    assert suspect.standing.refuses()
    suspect.now_s += TIMES.pause_s
    assert not suspect.standing.refuses()


def test_what_others_did_before_the_charge_is_no_evidence(worker: Worker) -> None:
    """A whole fleet loses access: this one notices first, and others have told of good times only."""
    worker.fleet.counts["ok"] = 10_000
    worker.notes(FORBIDDEN, RECENT)
    for told in (5000, 5000, 3000, 2000, 900):  # what they did before, of which they tell until their next heartbeat
        worker.passes(1, mine=FORBIDDEN, ok=told)
    worker.passes(60, mine=FORBIDDEN, forbidden=1)
    assert not worker.became_suspect


def test_a_lone_worker_answers_as_ever(worker: Worker) -> None:
    worker.fleet.there = False
    worker.notes(FORBIDDEN, RECENT)
    worker.passes(1)
    assert worker.standing.limit() is None
    worker.passes(3600, mine=FORBIDDEN)
    assert not worker.became_suspect


def test_a_fleet_that_fails_alike_answers_as_ever_and_doubts_less_and_less_often(worker: Worker) -> None:
    worker.notes(FORBIDDEN, RECENT)
    slow = 0
    for _ in range(1200):
        worker.passes(1, forbidden=10)
        if worker.standing.limit() is None:
            worker.notes(FORBIDDEN, 100)
        else:
            slow += 1
            worker.notes(FORBIDDEN)
    assert not worker.became_suspect
    assert slow < 100


def test_bad_requests_of_one_sender_cost_a_second_or_two(worker: Worker) -> None:
    worker.notes(FORBIDDEN, RECENT)
    worker.passes(4, mine=ANSWERED, ok=50)
    assert worker.standing.limit() is None
    assert not worker.became_suspect


def test_bad_requests_of_one_sender_and_then_no_work_make_no_suspect(worker: Worker) -> None:
    worker.notes(FORBIDDEN, RECENT)
    worker.passes(120, ok=50)
    assert not worker.became_suspect
    assert worker.standing.limit() is None


def test_a_suspect_that_answers_is_well_again(suspect: Worker) -> None:
    suspect.passes(TIMES.pause_s - 1, mine=ANSWERED, ok=50)
    assert suspect.standing.reason
    suspect.passes(3, mine=ANSWERED, ok=50)
    assert suspect.standing.reason is None
    assert suspect.standing.limit() is None


def test_a_suspects_pause_grows_to_minutes(suspect: Worker) -> None:
    tried_s = []
    while len(tried_s) < 12:
        suspect.passes(1, ok=50)
        if suspect.standing.limit():
            tried_s.append(suspect.now_s)
            suspect.notes(FORBIDDEN)
    pauses = [later - before for before, later in pairwise(tried_s)]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(2 * TIMES.pause_s, abs=2)
    assert pauses[-1] == pytest.approx(TIMES.pause_max_s, abs=2)


def test_who_is_suspect_again_soon_pauses_for_as_long_as_before(suspect: Worker) -> None:
    suspect.passes(60, mine=FORBIDDEN, ok=50)
    suspect.passes(60, mine=ANSWERED, ok=50)
    assert suspect.standing.reason is None
    suspect.becomes_suspect()
    assert suspect.became_suspect == 2
    suspect.now_s += TIMES.pause_s
    assert suspect.standing.limit() == 0


def test_a_suspect_whose_fleet_has_gone_answers_again(suspect: Worker) -> None:
    suspect.fleet.there = False
    suspect.passes(TIMES.suspect_look_s + 1)
    assert suspect.standing.limit() is None


def test_a_suspect_whose_fleet_comes_to_fail_alike_answers_again(suspect: Worker) -> None:
    suspect.passes(2 * TIMES.suspect_look_s + 2, forbidden=50)
    assert suspect.standing.limit() is None


def test_a_suspect_stays_so_while_there_is_no_work(suspect: Worker) -> None:
    suspect.passes(3600)
    assert suspect.standing.reason


def test_without_redis_nobody_becomes_suspect(worker: Worker) -> None:
    worker.fleet.away = True
    worker.notes(FORBIDDEN, RECENT)
    for _ in range(30):
        worker.now_s += 1.0
        with suppress(RedisGone):
            worker.standing.turn(worker.fleet)
        worker.notes(FORBIDDEN)
    assert not worker.became_suspect


def test_two_models_that_fail_at_once_hide_nothing(worker: Worker) -> None:
    for second in range(RECENT + 20):
        for model in ("m", "other") if second % 2 else ("other", "m"):
            worker.standing.note(model, FORBIDDEN)
        worker.passes(1, ok=50)
    assert worker.became_suspect == 1

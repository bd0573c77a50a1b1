"""A task after losses, as far as no Redis is needed: tests/integration/test_solo.py has the rest."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

import pytest

from lowtide.tasks import Outcome, port
from lowtide.tasks.errors import ContentLost, EngineStopped, HandBack
from lowtide.tasks.running.gate import GATE
from lowtide.tasks.running.losses import STRAY_MAX, STRIKES_MAX, History, Mark
from lowtide.tasks.running.run import FETCHING, Run
from lowtide.tasks.stub import StubEngine

WAIT_S = 10.0
OK = Outcome(status="ok", outputs=["before"])


class Outside(StubEngine):
    """Redis and the engine, as far as a run asks them. Notes each step, those with the gate closed in brackets."""

    def __init__(self, history: History) -> None:
        super().__init__(lambda request: [request.uri])
        self.history = history
        self.steps: list[str] = []
        self.stops: dict[str, EngineStopped] = {}
        self.unavailable: set[str] = set()

    def look(self, task: str) -> History:
        return self.history

    def mark(self, task: str, mark: Mark) -> None:
        self._note(f"mark {mark}")

    def absolve(self, task: str, mark: Mark, outcomes: Mapping[int, Outcome]) -> None:
        self._note(f"absolve {mark} with {_places(outcomes)}")

    def keep(self, task: str, outcomes: Mapping[int, Outcome]) -> None:
        self._note(f"keep {_places(outcomes)}")

    def lost(self, task: str) -> None:
        self._note("lost")

    def fetch(self, requests: Sequence[Any]) -> list[Any]:
        self._note(f"fetch {_uris(requests)}")
        return [
            Outcome.failed("unavailable", "", retry=True) if request.uri in self.unavailable else request
            for request in requests
        ]

    def submit(self, requests: Sequence[Any]) -> list[Future[Outcome]]:
        self._note(f"submit {_uris(requests)}")
        futures = list(super().submit(requests))
        for place, request in enumerate(requests):
            if stop := self.stops.get(request.uri):
                futures[place] = Future()
                futures[place].set_exception(stop)
        return futures

    def run(self, uris: str) -> list[str]:
        """The outcomes of requests with these URIs, of one letter each, in words."""
        requests = [{"model": "m", "uri": uri} for uri in uris]
        outcomes = Run("t", requests, lambda: self).outcomes(redelivered=True)
        return [outcome.outputs[0] if outcome.outputs else outcome.error.type for outcome in outcomes]

    def _note(self, step: str) -> None:
        self.steps.append(f"[{step}]" if GATE.closed else step)


def _uris(requests: Sequence[Any]) -> str:
    return "".join(request.uri or "?" for request in requests)


def _places(outcomes: Mapping[int, Outcome]) -> str:
    return " ".join(map(str, outcomes)) or "nothing"


@pytest.fixture
def outside() -> Iterator[Outside]:
    plugged = Outside(History(losses=1, stray=1))
    port.plug(plugged)
    yield plugged
    port.plug(None)


def test_after_a_loss_all_is_fetched_first_and_then_runs_in_groups_of_the_square_root(outside: Outside) -> None:
    assert outside.run("abcdefghij") == list("abcdefghij")
    assert outside.steps == [
        "fetch abcdefghij",
        *("[mark g0:1]", "[submit abc]", "[absolve g0:1 with 0 1 2]"),
        *("[mark g1:1]", "[submit def]", "[absolve g1:1 with 3 4 5]"),
        *("[mark g2:1]", "[submit ghi]", "[absolve g2:1 with 6 7 8]"),
        *("[mark 9:1]", "[submit j]", "[absolve 9:1 with 9]"),
    ]
    assert not GATE.closed


@pytest.mark.parametrize("uris", ["a", "ab", "abc"])
def test_of_less_than_four_requests_there_are_no_groups(outside: Outside, uris: str) -> None:
    outside.run(uris)
    assert [step for step in outside.steps if "submit" in step] == [f"[submit {uri}]" for uri in uris]


def test_a_group_that_was_lost_is_split_for_good_and_the_others_are_not(outside: Outside) -> None:
    outside.history = History(losses=7, split=frozenset({1}))
    outside.run("abcd")
    assert [step for step in outside.steps if "mark" in step] == ["[mark g0:7]", "[mark 2:7]", "[mark 3:7]"]


def test_the_one_that_is_left_of_a_group_is_marked_as_a_single_request(outside: Outside) -> None:
    outside.history = History(losses=2, outcomes={0: OK, 3: OK})
    assert outside.run("abcd") == ["before", "b", "c", "before"]
    assert outside.steps == [
        "fetch bc",
        *("[mark 1:2]", "[submit b]", "[absolve 1:2 with 1]"),
        *("[mark 2:2]", "[submit c]", "[absolve 2:2 with 2]"),
    ]


def test_a_group_is_the_same_whatever_has_an_outcome_already(outside: Outside) -> None:
    outside.history = History(losses=2, outcomes=dict.fromkeys(range(4), OK))
    outside.run("abcdefghi")
    assert [step for step in outside.steps if "mark" in step] == ["[mark g1:2]", "[mark g2:2]"]


def test_who_has_three_strikes_is_not_even_fetched(outside: Outside) -> None:
    outside.history = History(losses=5, strikes={0: STRIKES_MAX, 2: STRIKES_MAX - 1})
    assert outside.run("abcd") == ["worker_lost", "b", "c", "d"]
    assert outside.steps[0] == "fetch bcd"
    assert [step for step in outside.steps if "submit" in step] == ["[submit b]", "[submit cd]"]


def test_an_outcome_of_before_holds_whatever_befell_the_request_since(outside: Outside) -> None:
    outside.history = History(losses=5, strikes={0: STRIKES_MAX}, outcomes={0: OK})
    assert outside.run("a") == ["before"]
    assert outside.steps == ["fetch "]


def test_losses_that_nothing_explains_have_content_fetched_after_the_mark(outside: Outside) -> None:
    outside.history = History(losses=4, stray=STRAY_MAX)
    outside.run("abcd")
    assert outside.steps[:2] == ["[mark g0:4]", "[submit ab]"]


def test_content_that_cannot_be_had_is_an_outcome_which_is_kept_and_its_neighbours_run(outside: Outside) -> None:
    outside.unavailable = {"b"}
    assert outside.run("abcd") == ["a", "unavailable", "c", "d"]
    assert outside.steps[:4] == ["fetch abcd", "keep 1", "[mark 0:1]", "[submit a]"]


def test_what_was_fetched_is_what_runs(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "fetch", lambda requests: [request.with_content(b"1") for request in requests])
    ran: list[tuple[str | None, bytes]] = []
    monkeypatch.setattr(outside, "_outputs_of", lambda request: ran.append((request.uri, request.content())))
    Run("t", [{"model": "m", "uri": "a"}], lambda: outside).outcomes(redelivered=True)
    assert ran == [(None, b"1")]


def test_a_drain_while_content_is_fetched_leaves_no_mark(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(requests: Sequence[Any]) -> NoReturn:
        raise EngineStopped("drain")

    monkeypatch.setattr(outside, "fetch", stopping)
    with pytest.raises(HandBack):
        outside.run("abcd")
    assert outside.steps == []


def test_a_drain_in_the_middle_of_a_group_takes_its_mark_back_and_keeps_what_is_done(outside: Outside) -> None:
    outside.stops["b"] = EngineStopped("drain")
    with pytest.raises(HandBack):
        outside.run("abcd")
    assert outside.steps[1:] == ["[mark g0:1]", "[submit ab]", "[absolve g0:1 with 0]"]
    assert not GATE.closed


def test_a_group_that_does_not_come_back_counts_as_lost_and_keeps_its_mark_and_what_is_done(outside: Outside) -> None:
    outside.stops["b"] = EngineStopped("late", implicated=True)
    with pytest.raises(HandBack):
        outside.run("abcd")
    assert outside.steps[1:] == ["[mark g0:1]", "[submit ab]", "[keep 0]", "[lost]"]


def test_a_single_request_that_is_handed_back_loses_its_mark_whatever_the_reason(outside: Outside) -> None:
    outside.stops["a"] = EngineStopped("late", implicated=True)
    with pytest.raises(HandBack):
        outside.run("a")
    assert outside.steps[1:] == ["[mark 0:1]", "[submit a]", "[absolve 0:1 with nothing]"]


@pytest.mark.parametrize(
    ("history", "end"),
    [
        (History(losses=1, outcomes={0: OK}), "ok"),
        (History(losses=4, strikes={0: STRIKES_MAX}), "worker_lost"),
    ],
)
def test_content_is_not_missed_for_a_request_that_has_ended(outside: Outside, history: History, end: str) -> None:
    def missing() -> NoReturn:
        pytest.fail("asked for")

    outside.history = history
    run = Run("t", [{"model": "m", "blob": [0, 1]}], lambda: outside, blobs=missing)
    [outcome] = run.outcomes(redelivered=True)
    assert end == (outcome.error.type if outcome.error else outcome.status)


def test_content_that_is_gone_is_missed_for_one_that_has_not_ended(outside: Outside) -> None:
    run = Run("t", [{"model": "m", "blob": [0, 1]}] * 2, lambda: outside, blobs=lambda: Beside(None))
    outside.history = History(losses=1, outcomes={0: OK})
    with pytest.raises(ContentLost):
        run.outcomes(redelivered=True)
    assert outside.steps == []


class Beside:
    """The content beside a task, as far as a run asks for it. `goes`: once it was looked for."""

    def __init__(self, content: bytes | None, *, goes: bool = False) -> None:
        self.content = content
        self.goes = goes
        self.brought = threading.Event()

    def has(self, task: str) -> bool:
        return self.goes or self.content is not None

    def get(self, task: str) -> bytes | None:
        self.brought.set()
        return self.content


def test_a_lost_task_brings_its_content_when_it_is_its_turn_to_run_alone(outside: Outside) -> None:
    beside = Beside(b"a")
    run = Run("t", [{"model": "m", "blob": [0, 1]}], lambda: outside, blobs=lambda: beside)
    with ThreadPoolExecutor() as pool:
        with FETCHING:
            outcomes = pool.submit(run.outcomes, redelivered=True)
            assert not beside.brought.wait(0.2)
        assert [outcome.status for outcome in outcomes.result(WAIT_S)] == ["ok"]
    assert beside.brought.is_set()


def test_a_lost_task_whose_content_is_gone_does_not_wait_for_its_turn_to_say_so(outside: Outside) -> None:
    run = Run("t", [{"model": "m", "blob": [0, 1]}], lambda: outside, blobs=lambda: Beside(None))
    with ThreadPoolExecutor() as pool, FETCHING:
        outcomes = pool.submit(run.outcomes, redelivered=True)
        assert isinstance(outcomes.exception(WAIT_S), ContentLost)


def test_content_that_goes_while_a_lost_task_waits_for_its_turn_is_missed(outside: Outside) -> None:
    run = Run("t", [{"model": "m", "blob": [0, 1]}], lambda: outside, blobs=lambda: Beside(None, goes=True))
    with pytest.raises(ContentLost):
        run.outcomes(redelivered=True)
    assert outside.steps == []

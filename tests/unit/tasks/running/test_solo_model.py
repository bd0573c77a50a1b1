from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from lowtide.tasks import Outcome, port
from lowtide.tasks.running.losses import STRIKES_MAX, History, Mark
from lowtide.tasks.running.run import Run
from lowtide.tasks.stub import StubEngine
from tests.unit.bridge import protocol_model
from tests.unit.exploration import WEDGED, Violation, explore
from tests.unit.tasks.running.solo_model import FAULTS, Model
from tests.unit.tasks.running.solo_state import CONTENT_LOST, GIVEN_UP, Circumstance, State
from tests.unit.tasks.running.solo_variation import AGAIN, ALONE, BLAMED, ENDLESS, PIECES, UNDONE, WORKER

ALL = frozenset(Circumstance)


def only(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


def given_up(**fields: Any) -> set[int]:
    """The requests that are given up in some state, in which no promise is broken."""
    found = explore(Model(**fields))
    assert found.violation is None, str(found.violation)
    results = {state.result for state in found.states if state.result}
    return {index for result in results for index, outcome in enumerate(result) if outcome == GIVEN_UP}


def cost(**fields: Any) -> tuple[int, int]:
    """Losses, and what is submitted after the first of them, when nothing goes wrong but the poisonous request."""
    model = Model(**fields, faults=0)
    state, words = model.start(), ["worker 0: CRASH"] if fields["poison"] is None else []
    if words:  # an accident
        state = state.placed(0, "dead")
    while not model.finished(state):
        word, state = next(model.moves(state))
        words.append(word)
    return sum("give back" in word for word in words), sum("submit" in word and "all" not in word for word in words)


def violation(**fields: Any) -> Violation:
    found = explore(Model(**fields)).violation
    assert found is not None, "no state breaks a promise"
    print(found)  # noqa: T201 (`pytest -s` shows every interleaving)
    return found


WORKERS_FAULTS = FAULTS - {"FLUSHALL", "SECOND"}
DATA_LOST = only("FLUSHALL", "CRASH", "BLOB")
SENT_TWICE = only("SECOND", "CRASH", "BLOB")
"""All faults at once are 85,000 states for each place of the poisonous request, and nothing is wrong with them."""


@pytest.mark.parametrize("kinds", [WORKERS_FAULTS, DATA_LOST, SENT_TWICE])
@pytest.mark.parametrize("poison", [None, 0, 1])
def test_whatever_two_faults_happen_the_poisonous_request_is_given_up_its_neighbour_answered_and_nothing_run_twice(
    poison: int | None, kinds: frozenset[str]
) -> None:
    found = explore(Model(poison=poison, kinds=kinds))

    assert found.violation is None, str(found.violation)
    ends = {state.result for state in found.states if state.result} - {CONTENT_LOST}
    assert ends == {tuple(GIVEN_UP if index == poison else "ok" for index in range(2))}
    assert len(found.states) > (500 if poison is None else 3_000)  # else faults were not explored


class Named(Model):
    """Tells workers and copies apart by their names."""

    def key(self, state: State) -> State:
        return state


@pytest.mark.parametrize("poison", [None, 0])
def test_workers_and_copies_by_other_names_come_to_no_other_states(poison: int | None) -> None:
    model = Model(poison=poison, faults=1)
    found, named = explore(model), explore(Named(poison=poison, faults=1))

    assert {model.key(state) for state in found.states} == {model.key(state) for state in named.states}
    assert len(found.states) < len(named.states) / 1.5


@pytest.mark.parametrize("poisons", ["submit", "fetch"])
@pytest.mark.parametrize("poison", [0, 1, 2])
def test_of_three_requests_the_poisonous_one_alone_is_given_up_whatever_goes_wrong_once(
    poison: int, poisons: str
) -> None:
    """The first two are a group."""
    assert given_up(requests=3, groups=(2,), poison=poison, poisons=poisons, faults=1) == {poison}


def test_no_accident_while_a_group_runs_is_a_strike_however_often() -> None:
    assert given_up(poison=None, requests=2, groups=(2,), kinds=only("CRASH"), faults=STRIKES_MAX) == set()
    assert given_up(poison=0, requests=2, groups=(2,), kinds=only("CRASH"), faults=STRIKES_MAX - 1) == {0}


@pytest.mark.parametrize(
    ("groups", "of_an_accident", "of_a_poisonous_request"),
    [
        ((), (1, 256), (4, 258)),
        ((16,), (1, 16), (5, 34)),
        ((128,), (1, 2), (5, 132)),
        ((64, 8), (1, 4), (6, 22)),
        ((128, 64, 32, 16, 8, 4, 2), (1, 2), (11, 18)),
    ],
)
def test_of_all_groups_that_cost_one_loss_those_of_the_square_root_have_the_fewest_runs(
    groups: Sequence[int], of_an_accident: tuple[int, int], of_a_poisonous_request: tuple[int, int]
) -> None:
    """Losses and runs of 256 requests, the most that a chunk has."""
    assert cost(requests=256, groups=groups, poison=None) == of_an_accident
    assert cost(requests=256, groups=groups, poison=100) == of_a_poisonous_request


def test_a_request_whose_content_ends_the_process_is_given_up_after_seven_losses() -> None:
    """One with others, two while it is fetched before it runs, one in its group, three alone."""
    assert cost(requests=4, poison=2, poisons="fetch")[0] == 7


def test_what_is_said_of_content_that_is_lost_ends_no_request_and_is_no_loss_however_often() -> None:
    found = explore(Model(poison=None, kinds=only("BLOB"), faults=STRIKES_MAX + 1))

    assert found.violation is None, str(found.violation)
    assert {state.result for state in found.states if state.learned} == {("ok", "ok")}
    assert not any(state.count or any(state.marks) for state in found.states)


def test_an_innocent_request_is_given_up_after_three_crashes_while_it_runs_alone_and_no_fewer() -> None:
    """The poisonous one costs the first loss, after which they run alone."""
    assert given_up(poison=0, kinds=only("CRASH"), faults=STRIKES_MAX - 1) == {0}
    assert given_up(poison=0, kinds=only("CRASH"), faults=STRIKES_MAX) == {0, 1}


def test_without_a_poisonous_request_the_first_accident_costs_no_strike() -> None:
    assert given_up(poison=None, kinds=only("CRASH"), faults=STRIKES_MAX) == set()
    assert given_up(poison=None, kinds=only("CRASH"), faults=STRIKES_MAX + 1) == {0, 1}


def test_no_drain_and_no_overdue_batch_is_a_strike_however_often() -> None:
    assert given_up(poison=0, kinds=only("DRAIN", "OVERDUE"), faults=STRIKES_MAX + 2) == {0}


def test_no_write_that_redis_does_not_confirm_is_a_strike_however_often() -> None:
    assert given_up(poison=0, kinds=only("UNANSWERED", "REFUSED"), faults=STRIKES_MAX + 2) == {0}


@pytest.mark.parametrize(
    ("steps", "poison", "what"),
    [
        (("submit", "mark", "absolve"), 0, WEDGED),
        (("mark", "absolve", "submit"), 0, WEDGED),
        (("submit", "absolve"), 0, WEDGED),
        (("mark", "submit"), 1, AGAIN),
    ],
)
def test_no_step_with_a_request_alone_can_be_left_out_or_taken_earlier(
    steps: Sequence[str], poison: int, what: str
) -> None:
    assert violation(alone=steps, poison=poison, faults=0).what == what


@pytest.mark.parametrize(
    ("steps", "what"),
    [(("look", "fetch", "store", "run", "ack"), AGAIN), (("look", "fetch", "run", "ack", "store"), WEDGED)],
)
def test_a_worker_that_takes_one_step_before_another_breaks_a_promise(steps: Sequence[str], what: str) -> None:
    assert violation(worker=steps, kinds=only("CRASH"), faults=1).what == what


@pytest.mark.parametrize(
    ("piece", "poison", "kinds", "what"),
    [
        ("sweeper", 0, (), WEDGED),
        ("count losses", 0, (), WEDGED),
        ("split what was lost", 0, (), WEDGED),
        ("send again", 0, ("FLUSHALL",), WEDGED),
        ("store parts", 1, (), AGAIN),
        ("keep what is done at a drain", 1, ("DRAIN",), AGAIN),
        ("note what is handed back", 1, ("DRAIN",), AGAIN),
        ("note what is sent again", None, ("FLUSHALL",), AGAIN),
        ("skip what is finished", None, ("CRASH",), AGAIN),
        ("send content again", None, ("BLOB",), WEDGED),
        ("drop the news", None, ("BLOB",), WEDGED),
        ("look for a result", None, ("SECOND", "BLOB"), UNDONE),
    ],
)
def test_no_piece_of_solo_mode_can_be_left_out(piece: str, poison: int | None, kinds: Sequence[str], what: str) -> None:
    fields: dict[str, Any] = {"poison": poison, "kinds": only(*kinds), "faults": 3}

    assert violation(groups=(2,), pieces=PIECES - {piece}, **fields).what == what


def test_a_request_whose_content_ends_the_process_is_never_found_unless_it_is_fetched_within_its_mark() -> None:
    fields: dict[str, Any] = {"poison": 0, "poisons": "fetch", "kinds": only(), "faults": 0}

    assert violation(**fields, pieces=PIECES - {"fetch within the mark"}).what == WEDGED
    assert given_up(**fields) == {0}


@pytest.mark.parametrize(
    ("circumstance", "poison", "kinds", "faults", "what"),
    [
        (Circumstance.TWOFOLD, 0, ("PAUSED",), 1, BLAMED),
        (Circumstance.TWOFOLD, None, ("SECOND",), 1, AGAIN),
        (Circumstance.UNCONFIRMED, None, ("CRASH", "UNANSWERED"), 1 + 2 * STRIKES_MAX, BLAMED),
        (Circumstance.UNCONFIRMED, None, ("CRASH", "REFUSED"), 1 + 2 * STRIKES_MAX, BLAMED),
        (Circumstance.EMPTIED, 0, ("FLUSHALL", "DRAIN"), 2, ENDLESS),
    ],
)
def test_in_each_circumstance_that_is_excused_a_promise_is_broken(
    circumstance: Circumstance, poison: int | None, kinds: Sequence[str], faults: int, what: str
) -> None:
    fields: dict[str, Any] = {"requests": 1, "poison": poison, "kinds": only(*kinds), "faults": faults}

    assert violation(**fields, circumstances=ALL - {circumstance}).what == what
    assert explore(Model(**fields)).violation is None


def test_a_trace_tells_how_a_drain_without_absolution_becomes_a_strike() -> None:
    """Of three strikes one is a drain: the worker that took the task next was lost before it ran anything."""
    faults = 1 + 2 + 2
    left_out = PIECES - {"absolve at a drain"}
    found = violation(poison=None, requests=1, pieces=left_out, kinds=only("CRASH", "DRAIN"), faults=faults)

    crash = ["worker 0: CRASH", "sweeper: give back copy 0"]
    alone = ["worker 0: take copy 0", "worker 0: look", "worker 0: fetch", "worker 0: mark 0"]
    drain = ["worker 0: DRAIN, 0 not done", "worker 0: take copy 0"]
    words = ["worker 0: take copy 0", *crash, *(alone + crash) * 2, *alone, *drain, *crash, *alone[:2]]
    assert str(found).splitlines() == [f"{BLAMED}:", *(f"{number:4}. {word}" for number, word in enumerate(words, 1))]
    assert explore(Model(poison=None, requests=1, kinds=only("CRASH", "DRAIN"), faults=faults)).violation is None


class Outside(StubEngine):
    """Redis and the engine, as far as a run asks them. Notes each step."""

    def __init__(self) -> None:
        super().__init__(lambda request: [request.uri])
        self.steps: list[str] = []

    def look(self, task: str) -> History:
        self.steps.append("look")
        return History(losses=1)

    def mark(self, task: str, mark: Mark) -> None:
        assert mark.after == 1
        self.steps.append(f"mark {self._members(mark)}")

    def absolve(self, task: str, mark: Mark, outcomes: Mapping[int, Outcome]) -> None:
        assert self._members(mark) == " ".join(map(str, outcomes))
        self.steps.append(f"absolve {self._members(mark)}")

    def fetch(self, requests: Sequence[Any]) -> Any:
        self.steps.append("fetch")
        return super().fetch(requests)

    def submit(self, requests: Sequence[Any]) -> Any:
        self.steps.append(f"submit {' '.join(request.uri for request in requests)}")
        return super().submit(requests)

    def _members(self, mark: Mark) -> str:
        first = 2 * mark.place
        return f"{first} {first + 1}" if mark.is_group else str(mark.place)


@pytest.fixture
def outside() -> Iterator[Outside]:
    plugged = Outside()
    port.plug(plugged)
    yield plugged
    port.plug(None)


def test_a_run_takes_the_steps_of_the_model_in_its_order(outside: Outside) -> None:
    requests: list[Mapping[str, Any]] = [{"model": "m", "uri": str(index)} for index in range(5)]
    Run("t", requests, lambda: outside).outcomes(redelivered=True)

    assert Model(requests=5).units[5:] == (range(2), range(2, 4), range(4, 5))
    assert outside.steps == [*WORKER[:2], *(f"{step} {members}" for members in ("0 1", "2 3", "4") for step in ALONE)]


def test_the_worker_of_this_model_ends_as_that_of_the_settle_protocol_does() -> None:
    """Whose order another test compares with the code."""
    assert WORKER[-2:] == protocol_model.WORKER[-2:]

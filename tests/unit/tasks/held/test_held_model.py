from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.bridge import protocol_model
from tests.unit.exploration import WEDGED, Violation, explore
from tests.unit.tasks.held.held_model import FAULTS, MISTAKES, Model
from tests.unit.tasks.held.held_state import Circumstance, State
from tests.unit.tasks.held.held_steps import (
    ABANDONED,
    AGAIN,
    ALIVE,
    LOST,
    ORPHANED,
    PIECES,
    STOLEN,
    SWEEP,
    TWICE,
    UNTOLD,
    WHEN_FULL,
    WORKER,
)

ALL = frozenset(Circumstance)


def only(*kinds: str) -> frozenset[str]:
    assert FAULTS.issuperset(kinds)
    return frozenset(kinds)


def violation(**fields: Any) -> Violation:
    found = explore(Model(**fields)).violation
    assert found is not None, "no state breaks a promise"
    print(found)  # noqa: T201 (`pytest -s` shows every interleaving)
    return found


@pytest.mark.parametrize(("messages", "faults", "states"), [(1, 2, 8_000), (2, 1, 12_000)])
def test_whatever_goes_wrong_no_task_is_lost_or_held_by_nobody_or_twice_or_waits_for_ever(
    messages: int, faults: int, states: int
) -> None:
    found = explore(Model(messages=messages, faults=faults))

    assert found.violation is None, str(found.violation)
    assert len(found.states) > states  # else faults were not explored


class Named(Model):
    """Tells slots and messages apart by their names."""

    def key(self, state: State) -> State:
        incarnations = tuple(one._replace(name=0) for one in state.incarnations)
        return state._replace(incarnations=incarnations, born=0)


@pytest.mark.parametrize(("messages", "slots"), [(1, 2), (2, 1)])
def test_slots_and_messages_by_other_names_come_to_no_other_states(messages: int, slots: int) -> None:
    fields: dict[str, Any] = {"messages": messages, "slots": slots, "faults": 1}
    model = Model(**fields)
    found, named = explore(model), explore(Named(**fields))

    assert {model.key(state) for state in found.states} == {model.key(state) for state in named.states}
    assert len(found.states) < len(named.states) / 1.5


def test_whoever_stands_still_in_mid_sweep_takes_before_it_beats_and_dies_right_after_that_leaves_nothing_behind() -> (
    None
):
    """Two tasks, so that its sweep has two calls, and any number of sweepers at once."""
    found = explore(Model(messages=2, slots=1, kinds=only("STANDS STILL", "CRASH"), faults=2))

    assert found.violation is None, str(found.violation)
    assert any(
        one.lives and one.registration == "given up" and len(one.held) == len(one.deliveries) - 1 == 1
        for state in found.states
        for one in state.incarnations
    )  # half of what it has was given to others


@pytest.mark.parametrize(
    ("piece", "kinds", "what"),
    [
        ("sweeper", ("CRASH",), WEDGED),
        ("beats are compared", ("STANDS STILL",), ALIVE),
        ("given up at the first call", ("STANDS STILL",), UNTOLD),
        ("takes are refused", ("FLUSHALL",), ORPHANED),
        ("takes are refused", ("STANDS STILL",), ORPHANED),
        ("beats are refused", ("STANDS STILL",), UNTOLD),
        ("another id", ("STANDS STILL",), AGAIN),
        ("drop what is not begun", ("STANDS STILL",), ABANDONED),
        ("own hash", ("STANDS STILL",), STOLEN),
        ("flush before the take", ("HANDED BACK", "UNANSWERED"), STOLEN),
        ("hand back what is unknown", ("UNANSWERED",), WEDGED),
        ("hand back what is unknown", ("SET BACK",), WEDGED),
        ("holders follow", ("CRASH", "PURGED"), WEDGED),
        ("count losses", ("CRASH",), AGAIN),
        ("note what is handed back", ("HANDED BACK",), AGAIN),
        ("skip what is finished", ("CRASH",), AGAIN),
        ("send again", ("FLUSHALL",), WEDGED),
        ("send again", ("PURGED",), WEDGED),
        ("unregister when empty", ("ENDS",), ORPHANED),
        ("slot lock", ("STARTED TWICE",), ALIVE),
        ("gaps are no silence", ("PAUSED",), ALIVE),
        ("beats differ", ("CLOCK STOPS",), ALIVE),
        ("take in one step", (), LOST),
        ("give back in one step", ("CRASH",), TWICE),
    ],
)
def test_no_piece_of_the_protocol_can_be_left_out(piece: str, kinds: Sequence[str], what: str) -> None:
    fields: dict[str, Any] = {"messages": 1 if what == WEDGED else 2, "kinds": only(*kinds), "faults": len(kinds)}

    assert violation(**fields, pieces=PIECES - {piece}).what == what


def test_every_piece_of_the_protocol_is_left_out_by_a_test() -> None:
    [mark] = test_no_piece_of_the_protocol_can_be_left_out.pytestmark
    assert {piece for piece, *_ in mark.args[1]} == PIECES - {"predecessor"}
    assert set(MISTAKES.values()) <= PIECES | {"beat when full"}


def test_a_successor_in_the_same_slot_gives_back_what_its_predecessor_held_though_there_is_no_sweeper() -> None:
    no_sweeper, crash = PIECES - {"sweeper"}, only("CRASH")

    assert violation(pieces=no_sweeper - {"predecessor"}, kinds=crash, faults=1).what == WEDGED
    found = explore(Model(pieces=no_sweeper, kinds=crash, faults=1))
    # Only a successor that registers before it looks leaves it to a sweeper: its lock file has another name by then.
    assert found.violation is not None
    assert found.violation.trace[-2:] == ("worker 0: start", "worker 0: register")


def test_a_slot_that_stays_empty_is_left_to_the_sweeper() -> None:
    fields: dict[str, Any] = {"restarts": False, "kinds": only("CRASH"), "faults": 1}

    assert explore(Model(**fields)).violation is None
    assert violation(**fields, pieces=PIECES - {"sweeper"}).what == WEDGED


@pytest.mark.parametrize("script", sorted(WHEN_FULL))
def test_no_script_may_need_memory_for_its_first_write(script: str) -> None:
    what = ALIVE if script == "beat" else WEDGED

    assert violation(when_full=WHEN_FULL - {script}, kinds=only("FULL", "CRASH", "HANDED BACK")).what == what


@pytest.mark.parametrize("steps", [("take", "begin", "ack", "store"), ("take", "ack", "begin", "store")])
def test_a_worker_that_acknowledges_before_it_stores_the_result_loses_the_task(steps: Sequence[str]) -> None:
    assert violation(worker=steps, kinds=only(), faults=0).what == LOST


def test_a_sweep_that_removes_the_registration_before_the_last_task_leaves_tasks_that_nobody_gives_back() -> None:
    found = violation(messages=2, sweep=SWEEP[::-1], kinds=only("CRASH"), faults=1)

    assert found.what == ORPHANED


@pytest.mark.parametrize(
    ("circumstance", "kinds", "what"),
    [
        (Circumstance.STOOD_STILL, ("STANDS STILL",), AGAIN),
        (Circumstance.SET_BACK, ("SET BACK",), UNTOLD),
        (Circumstance.SET_BACK, ("FLUSHALL",), AGAIN),
    ],
)
def test_in_each_circumstance_that_is_excused_a_promise_is_broken(
    circumstance: Circumstance, kinds: Sequence[str], what: str
) -> None:
    fields: dict[str, Any] = {"kinds": only(*kinds), "faults": 1}

    assert violation(**fields, circumstances=ALL - {circumstance}).what == what
    assert explore(Model(**fields)).violation is None


def test_a_trace_tells_how_half_a_sweep_leaves_a_worker_with_what_another_runs() -> None:
    """So the first call of a sweep gives the incarnation up, for good, and its beats are refused from then on."""
    left_out = PIECES - {"given up at the first call"}
    found = violation(messages=2, pieces=left_out, kinds=only("STANDS STILL"), faults=1)

    assert str(found).splitlines() == [
        f"{UNTOLD}:",
        "   1. worker 0: register",
        "   2. worker 0: take 0",
        "   3. worker 0: take 1",
        "   4. worker 0: STANDS STILL",
        "   5. sweeper: a call for worker 0's",
        "   6. worker 0: beat",
    ]


def test_the_worker_of_this_model_ends_as_that_of_the_settle_protocol_does() -> None:
    """Whose order another test compares with the code."""
    assert tuple(step for step in WORKER if step != "begin") == protocol_model.WORKER

import pytest

from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.workers.suspicion.rule import OK, RECENT, Charge, Counts
from lowtide.workers.suspicion.tally import KINDS_MAX, LATER_KINDS, OutcomeTally, kind_of


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome(status=Status.OK, outputs=[1]), OK),
        (Outcome.failed("forbidden", "no"), "forbidden"),
        (Outcome.failed("unavailable", "no", retry=True), "unavailable"),
        (Outcome(status=Status.EXPIRED), None),
        (Outcome.failed("invalid_request", "no"), None),
        (Outcome.failed("unknown_model", "no"), None),
    ],
)
def test_what_an_outcome_says_of_the_worker(outcome: Outcome, kind: str | None) -> None:
    assert kind_of(outcome) == kind


def test_a_charge_stands_until_others_outcomes_came() -> None:
    tally = OutcomeTally()
    for _ in range(RECENT):
        tally.note("m", "forbidden")
    assert tally.charge == tally.charge_of("m") == Charge(model="m", kind="forbidden")

    for _ in range(3):
        tally.note("m", OK)
    assert tally.charge is None


def test_models_are_charged_each_for_itself() -> None:
    tally = OutcomeTally()
    for _ in range(RECENT):
        tally.note("good", OK)
        tally.note("bad", "model_error")
    assert tally.charge == Charge(model="bad", kind="model_error")
    assert tally.charge_of("good") is None

    for _ in range(RECENT):
        tally.note("good", "timeout")
    assert tally.charge_of("bad") == Charge(model="bad", kind="model_error")
    assert tally.charge_of("good") == Charge(model="good", kind="timeout")


def test_counts_are_since_the_beginning_and_outlast_a_charge() -> None:
    tally = OutcomeTally()
    for _ in range(RECENT):
        tally.note("m", "forbidden")
    tally.start_afresh()
    tally.note("m", OK)

    assert tally.charge is None
    assert tally.counts("m") == Counts({"forbidden": RECENT, OK: 1})
    assert tally.everything() == {"m": {"forbidden": RECENT, OK: 1}}


def test_a_model_that_invents_kinds_makes_no_status_grow() -> None:
    tally = OutcomeTally()
    for number in range(1000):
        tally.note("m", f"kind {number}")
    tally.note("m", OK)

    counts = tally.counts("m")
    assert len(counts.by_kind) <= KINDS_MAX + 2
    assert counts.of(LATER_KINDS) == 1000 - KINDS_MAX
    assert counts.of(OK) == 1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.workers.suspicion.rule import (
    ENOUGH_OF_MINE,
    ENOUGH_OF_OTHERS,
    OK,
    RECENT,
    Charge,
    Counts,
    Judgement,
    charged,
    verdict,
)

KINDS = (OK, "forbidden", "model_error", "not_an_image")

counts = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 60)).map(Counts)
kinds = st.sampled_from(KINDS[1:])


def test_nearly_all_of_the_last_outcomes_are_a_charge() -> None:
    recent = [*["forbidden"] * 18, OK, "timeout"]
    assert charged("m", recent) == Charge(model="m", kind="forbidden")
    assert charged("m", [*recent[1:], OK]) is None


def test_few_outcomes_are_no_charge() -> None:
    assert charged("m", ["forbidden"] * (RECENT - 1)) is None


def test_answers_are_no_charge() -> None:
    assert charged("m", [OK] * RECENT) is None


def test_who_fails_what_others_answer_is_suspect() -> None:
    mine = Counts({"forbidden": ENOUGH_OF_MINE})
    assert verdict("forbidden", mine=mine, others=Counts({OK: ENOUGH_OF_OTHERS})) is Judgement.SUSPECT


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        pytest.param({"forbidden": 40}, {}, Judgement.OPEN, id="alone"),
        pytest.param({"forbidden": 40}, {OK: 9}, Judgement.OPEN, id="others did little"),
        pytest.param({"forbidden": 4}, {OK: 900}, Judgement.OPEN, id="it did little"),
        pytest.param({}, {OK: 900}, Judgement.OPEN, id="it did nothing"),
        pytest.param({"forbidden": 8, OK: 2}, {OK: 900}, Judgement.CLEARED, id="it answers again"),
        pytest.param({"forbidden": 40}, {OK: 80, "forbidden": 20}, Judgement.CLEARED, id="some fail so elsewhere"),
        pytest.param({"forbidden": 40}, {"forbidden": 40}, Judgement.CLEARED, id="all fail so everywhere"),
        pytest.param({"forbidden": 40}, {OK: 20, "model_error": 30}, Judgement.CLEARED, id="others fail otherwise"),
        pytest.param({"forbidden": 40}, {OK: 95, "forbidden": 5}, Judgement.SUSPECT, id="others hardly ever"),
        pytest.param({"forbidden": 40}, {OK: 60, "not_an_image": 40}, Judgement.SUSPECT, id="some bad pictures there"),
    ],
)
def test_the_verdict(mine: dict[str, int], others: dict[str, int], expected: Judgement) -> None:
    assert verdict("forbidden", mine=Counts(mine), others=Counts(others)) is expected


@given(kind=kinds, mine=counts)
def test_a_lone_worker_is_never_suspect(kind: str, mine: Counts) -> None:
    assert verdict(kind, mine=mine, others=Counts()) is not Judgement.SUSPECT


@given(kind=kinds, one=counts, other=counts, another=kinds)
def test_of_two_workers_one_at_most_is_suspect(kind: str, one: Counts, other: Counts, another: str) -> None:
    both = {verdict(kind, mine=one, others=other), verdict(another, mine=other, others=one)}
    assert both != {Judgement.SUSPECT}


@given(kind=kinds, mine=counts, workers=st.integers(1, 9))
def test_a_fleet_that_fails_alike_has_no_suspect(kind: str, mine: Counts, workers: int) -> None:
    others = Counts({name: count * workers for name, count in mine.by_kind.items()})
    assert verdict(kind, mine=mine, others=others) is not Judgement.SUSPECT


@given(kind=kinds, mine=counts, others=counts)
def test_another_answer_here_makes_no_suspect(kind: str, mine: Counts, others: Counts) -> None:
    before = verdict(kind, mine=mine, others=others)
    after = verdict(kind, mine=mine.plus(Counts({OK: 1})), others=others)
    # What was too little to tell may be enough with it: that is no answer's fault.
    assert after is not Judgement.SUSPECT or before is Judgement.SUSPECT or mine.total < ENOUGH_OF_MINE


@given(before=counts, more=counts)
def test_what_was_added_is_told_apart(before: Counts, more: Counts) -> None:
    added = before.plus(more).since(before)
    assert all(added.of(kind) == more.of(kind) for kind in KINDS)


@given(recent=st.lists(st.sampled_from(KINDS), min_size=RECENT, max_size=RECENT))
def test_a_charge_is_of_what_most_failed_with(recent: list[str]) -> None:
    charge = charged("m", recent)
    if charge:
        assert recent.count(charge.kind) >= 18
        assert charge.kind != OK
    else:
        assert all(recent.count(kind) < 18 for kind in KINDS[1:])

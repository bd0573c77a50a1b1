"""The work outstanding, each request counted once."""

import math
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.autoscaling.signal.backlog import Backlog, State
from lowtide.autoscaling.signal.signal import Bridges, Work, beside_suspects, mean_rate_s, outstanding
from lowtide.tasks.chunks.packing import GUESSED_RATE_S

RATES_S = {"digits": 0.001, "resnet101": 0.01}

counts = st.integers(min_value=0, max_value=10**6)
mixes = st.dictionaries(st.sampled_from(["digits", "resnet101", "unmeasured"]), counts)


def queued(topic: Mapping[str, int] | None = None, /, **callers: int) -> Backlog:
    """So many of each model that came from the topic, and so many of callers."""
    total = Counter(topic or {}) + Counter(callers)
    return Backlog(requests={(model, State.QUEUED): count for model, count in total.items()}, from_topic=topic or {})


@pytest.mark.parametrize(
    ("gpu_seconds", "suspects", "machines"),
    [(0.0, 3, 0), (1.0, 0, 1), (1.0, 1, 2), (60.0, 1, 2), (61.0, 1, 3), (100.0, 2, 4), (100.0, 9, 4)],
)
def test_a_suspect_worker_costs_a_machine_more_while_there_is_work_and_no_more_than_the_work_asks_for(
    gpu_seconds: float, suspects: int, machines: int
) -> None:
    work = beside_suspects(Work(from_topic=0, from_callers=1, gpu_seconds=gpu_seconds), suspects, worker_s=60.0)
    assert math.ceil(work.signal_s / 60.0) == machines
    assert work.gpu_seconds == gpu_seconds


def test_nothing_anywhere_is_zero() -> None:
    work = outstanding(undelivered=0, backlog=Backlog(), bridges=Bridges(), rates_s=RATES_S)
    assert (work.requests, work.gpu_seconds) == (0, 0.0)


def test_work_only_in_pubsub_counts_at_the_mean_of_what_is_known() -> None:
    work = outstanding(undelivered=1000, backlog=Backlog(), bridges=Bridges(), rates_s=RATES_S)
    assert (work.from_topic, work.from_callers, round(work.gpu_seconds, 6)) == (1000, 0, 5.5)


def test_work_only_from_python_callers_counts_by_its_models() -> None:
    work = outstanding(undelivered=None, backlog=queued(digits=100, resnet101=10), bridges=Bridges(), rates_s=RATES_S)
    assert (work.from_topic, work.from_callers, round(work.gpu_seconds, 6)) == (0, 110, 0.2)


def test_what_a_bridge_holds_in_redis_is_undelivered_too_and_counts_once() -> None:
    backlog = queued({"resnet101": 40})
    for bridges in (Bridges(leased=40), Bridges()):  # and when that bridge is dead
        work = outstanding(undelivered=100, backlog=backlog, bridges=bridges, rates_s=RATES_S)
        assert (work.from_topic, work.from_callers, round(work.gpu_seconds, 6)) == (100, 0, 1.0)


def test_what_a_dead_bridge_left_in_redis_counts_while_the_metric_has_not_seen_it() -> None:
    work = outstanding(undelivered=0, backlog=queued({"digits": 60}), bridges=Bridges(), rates_s=RATES_S)
    assert (work.from_topic, work.from_callers) == (60, 0)


def test_callers_of_one_model_do_not_hide_behind_the_bridges_of_another() -> None:
    bridges = Bridges(leased=50)
    backlog = queued({"digits": 20}, resnet101=30)
    work = outstanding(undelivered=50, backlog=backlog, bridges=bridges, rates_s=RATES_S)
    assert work.from_callers == 30


def test_while_the_metric_is_older_than_the_messages_the_bridges_are_believed() -> None:
    bridges = Bridges(leased=70)
    work = outstanding(undelivered=0, backlog=queued({"digits": 60}), bridges=bridges, rates_s=RATES_S)
    assert (work.from_topic, work.from_callers) == (70, 0)


def test_a_stale_metric_that_has_seen_what_the_bridges_have_is_not_added_to_it() -> None:
    bridges = Bridges(leased=100)
    work = outstanding(undelivered=100, backlog=queued({"digits": 100}), bridges=bridges, rates_s=RATES_S)
    assert work.requests == 100


def test_a_model_that_nobody_measured_counts_at_the_guess() -> None:
    work = outstanding(undelivered=10, backlog=Backlog(), bridges=Bridges(), rates_s={})
    assert work.gpu_seconds == 10 * GUESSED_RATE_S


def test_the_first_mix_with_requests_tells_the_mean() -> None:
    assert mean_rate_s({}, {"resnet101": 0}, {"digits": 1, "resnet101": 1}, rates_s=RATES_S) == 0.0055
    assert mean_rate_s({"digits": 3}, {"resnet101": 1}, rates_s=RATES_S) == 0.001


def test_the_words_of_all_bridges_are_added_up_and_an_older_release_says_less() -> None:
    bridges = Bridges.of(
        [
            {"held": 5, "content_bytes": 100, "leased": 7, "settling": 0},
            {
                "leased": 3,
                "oldest_at": 20.0,
                "at_risk": 1,
                "ignored": {"folder": 1, "deleted": 2},
            },
            {"leased": 4, "content_bytes": 11, "oldest_at": 10.0, "at_risk": 2, "ignored": {"deleted": 3}},
            {"leased": 0, "oldest_at": None, "at_risk": 0, "refused": {"urgent": "gone"}},
        ]
    )
    assert bridges == Bridges(
        leased=14,
        content_bytes=111,
        oldest_at=10.0,
        at_risk=3,
        ignored={"deleted": 5, "folder": 1},
        refused={"urgent": "gone"},
    )


@given(undelivered=counts | st.none(), leased=counts, topic=mixes, callers=mixes)
def test_the_work_covers_each_source_and_is_no_more_than_all_of_them(
    undelivered: int | None, leased: int, topic: dict[str, int], callers: dict[str, int]
) -> None:
    bridges, backlog = Bridges(leased=leased), queued(topic, **callers)
    work = outstanding(undelivered=undelivered, backlog=backlog, bridges=bridges, rates_s=RATES_S)

    assert work.from_callers == sum(callers.values())
    assert work.from_topic == max(undelivered or 0, leased, sum(topic.values()))
    assert (work.gpu_seconds > 0) == (work.requests > 0)

"""A group's recommendations, found again from what it was sized by."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lowtide.autoscaling.policy.decide import STALE_AFTER_S, GroupState, SignalPoint, decide
from lowtide.autoscaling.policy.policy import Policy, Signal
from lowtide.autoscaling.policy.remembered import DECIDES_S, remembered

NOW = 1_780_000_000.0
SIGNAL = Signal(metric="work", filter='resource.type = "global"', single_instance_assignment=2.0)
POLICY = Policy(max_replicas=20, signals=(SIGNAL,), stabilization_period_s=600)


def size(policy: Policy, points: Sequence[SignalPoint], *, by_memory: bool) -> int:
    """What is recommended at NOW, when nothing is outstanding any more: by a group that was there all the time and
    decided at each point, or from its memory.
    """
    histories = {SIGNAL.metric: [points]}
    group = GroupState()
    if by_memory:
        group = GroupState(recommendations=remembered(policy, histories=histories, now=NOW))
    else:
        for point in points:
            group = decide(policy, histories=histories, group=group, now=point.at).group
    now = {SIGNAL.metric: [[SignalPoint(at=NOW, value=0.0)]]}
    return decide(policy, histories=now, group=group, now=NOW).recommended_size


@given(
    gaps_s=st.lists(st.floats(5, DECIDES_S), min_size=1, max_size=60),
    values=st.lists(st.floats(0, 50), min_size=60, max_size=60),
    period_s=st.integers(1, 900),
)
def test_it_is_no_less_than_the_group_has_and_no_more_than_a_minute_further_back(
    gaps_s: list[float], values: list[float], period_s: int
) -> None:
    at, points = NOW, []
    for gap_s, value in zip(gaps_s, values, strict=False):
        at -= gap_s
        points.insert(0, SignalPoint(at=at, value=value))
    policy = replace(POLICY, stabilization_period_s=period_s)
    further = replace(policy, stabilization_period_s=period_s + int(DECIDES_S))

    found = size(policy, points, by_memory=True)
    assert size(policy, points, by_memory=False) <= found <= size(further, points, by_memory=False)


def test_the_most_of_the_period_is_remembered_and_what_came_before_is_not() -> None:
    points = [
        SignalPoint(at=NOW - ago_s, value=value) for ago_s, value in ((700, 30.0), (650, 4.0), (400, 10.0), (385, 0.0))
    ]
    assert size(POLICY, points, by_memory=True) == 5


def test_a_signal_that_went_missing_is_remembered_as_no_load_but_held() -> None:
    points = [SignalPoint(at=NOW - STALE_AFTER_S - 200, value=10.0)]
    policy = replace(POLICY, stabilization_period_s=100)
    found = remembered(policy, histories={SIGNAL.metric: [points]}, now=NOW)

    assert [(NOW - one.at, one.needed, one.size) for one in found] == [(80.0, 0, 5), (20.0, 0, 5)]


def test_without_any_point_nothing_is_remembered() -> None:
    assert remembered(POLICY, histories={}, now=NOW) == ()
    assert remembered(POLICY, histories={SIGNAL.metric: [[SignalPoint(at=NOW + 20, value=5.0)]]}, now=NOW) == ()

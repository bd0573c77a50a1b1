from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lowtide.autoscaling.policy.decide import Decision, GroupState, SignalPoint, decide
from lowtide.autoscaling.policy.policy import Policy, ScaleInControl, Signal
from lowtide.autoscaling.policy.schedule import Schedule

NOW = 1_780_000_000.0
STEP_S = 30
FILTER = 'resource.type = "global"'
NAMES = ("a", "b", "c")
CONTROLS = st.one_of(
    st.none(),
    st.builds(ScaleInControl, time_window_s=st.integers(1, 600), max_scaled_in=st.integers(1, 10)),
    st.builds(ScaleInControl, time_window_s=st.integers(1, 600), max_scaled_in=st.integers(1, 100)),
)
METRICS = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
ASSIGNMENTS = st.floats(0.1, 50)


def signals(draw: st.DrawFn) -> tuple[Signal, ...]:
    return tuple(
        Signal(metric=name, filter=FILTER, single_instance_assignment=draw(ASSIGNMENTS)) for name in draw(METRICS)
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    least = draw(st.integers(0, 5))
    return Policy(
        min_replicas=least,
        max_replicas=draw(st.integers(least, 50)),
        signals=signals(draw),
        stabilization_period_s=draw(st.integers(0, 600)),
        scale_in_control=draw(CONTROLS),
    )


VALUES = st.one_of(st.just(0.0), st.floats(0, 1e3))
READINGS = st.fixed_dictionaries({name: st.one_of(st.none(), VALUES) for name in NAMES})
TIDES = st.lists(READINGS, min_size=1, max_size=30)


def decided(policy: Policy, readings: Mapping[str, float | None], *, group: GroupState, now: float = NOW) -> Decision:
    histories = {name: [[SignalPoint(at=now, value=value)]] for name, value in readings.items() if value is not None}
    return decide(policy, histories=histories, group=group, now=now)


def run(policy: Policy, tide: list[dict[str, float | None]]) -> list[Decision]:
    """Decisions one after another, `STEP_S` apart, each from the group that the one before left."""
    group, decisions = GroupState(size=policy.min_replicas), []
    for step, readings in enumerate(tide):
        decision = decided(policy, readings, group=group, now=NOW + step * STEP_S)
        decisions.append(decision)
        group = decision.group
    return decisions


@given(policy=policies(), tide=TIDES)
def test_the_size_is_within_the_limits(policy: Policy, tide: list[dict[str, float | None]]) -> None:
    assert all(policy.min_replicas <= decision.size <= policy.max_replicas for decision in run(policy, tide))


@given(policy=policies(), tide=TIDES)
def test_the_same_input_gives_the_same_decision(policy: Policy, tide: list[dict[str, float | None]]) -> None:
    assert run(policy, tide) == run(policy, tide)


@given(policy=policies(), tide=TIDES, name=st.sampled_from(NAMES), more=st.floats(0, 1e3))
def test_more_work_never_makes_a_smaller_group(
    policy: Policy, tide: list[dict[str, float | None]], name: str, more: float
) -> None:
    raised = [{**readings, name: None if (value := readings[name]) is None else value + more} for readings in tide]
    for less, greater in zip(run(policy, tide), run(policy, raised), strict=True):
        assert less.size <= greater.size


@given(policy=policies(), tide=TIDES)
def test_nothing_that_can_be_read_holds_the_size(policy: Policy, tide: list[dict[str, float | None]]) -> None:
    before = run(policy, tide)[-1]
    now = NOW + len(tide) * STEP_S
    after = decided(replace(policy, scale_in_control=None, stabilization_period_s=0), {}, group=before.group, now=now)
    assert after.size == before.size


@given(policy=policies(), tide=TIDES)
def test_one_signal_that_is_missing_forbids_a_smaller_group(
    policy: Policy, tide: list[dict[str, float | None]]
) -> None:
    missing = policy.signals[0].metric
    size = policy.min_replicas
    for decision in run(policy, [{**readings, missing: None} for readings in tide]):
        assert decision.size >= size
        size = decision.size


@given(policy=policies(), tide=TIDES)
def test_a_group_is_never_smaller_than_what_was_needed_in_the_stabilization_period(
    policy: Policy, tide: list[dict[str, float | None]]
) -> None:
    decisions = run(policy, tide)
    for last, decision in enumerate(decisions):
        window = [
            one for i, one in enumerate(decisions[: last + 1]) if (last - i) * STEP_S < policy.stabilization_period_s
        ]
        assert decision.size >= decision.needed
        assert all(decision.size >= one.group.recommendations[-1].needed for one in window)


@given(policy=policies(), tide=TIDES)
def test_a_group_never_loses_more_than_the_scale_in_control_allows(
    policy: Policy, tide: list[dict[str, float | None]]
) -> None:
    control = policy.scale_in_control
    decisions = run(replace(policy, stabilization_period_s=0), tide)
    for last, decision in enumerate(decisions):
        for i, earlier in enumerate(decisions[:last]):
            if control is not None and (last - i) * STEP_S < control.time_window_s:
                assert earlier.size - decision.size <= control.max_scaled_in


@given(policy=policies(), tide=TIDES)
def test_a_group_is_empty_exactly_when_all_was_zero_for_long_enough(
    policy: Policy, tide: list[dict[str, float | None]]
) -> None:
    policy = replace(policy, min_replicas=0, max_replicas=max(1, policy.max_replicas), scale_in_control=None)
    quiet = policy.stabilization_period_s // STEP_S + 1
    zeros: list[dict[str, float | None]] = [dict.fromkeys(NAMES, 0.0)] * quiet
    decisions = run(policy, tide + zeros)
    assert decisions[-1].size == 0
    for before, decision in zip([None, *decisions], decisions, strict=False):
        if decision.size == 0 and before is not None and before.size > 0:
            assert all(calculation.value == 0 for calculation in decision.calculations)


@given(policy=policies(), readings=READINGS, size=st.integers(0, 50))
def test_several_signals_are_the_largest_of_each_alone(
    policy: Policy, readings: dict[str, float | None], size: int
) -> None:
    group = GroupState(size=size)
    alone = [decided(replace(policy, signals=(one,)), readings, group=group).size for one in policy.signals]
    assert decided(policy, readings, group=group).size == max(alone)


@given(policy=policies(), tide=TIDES, floor=st.integers(0, 100))
def test_an_active_schedule_is_a_floor_and_nothing_else(
    policy: Policy, tide: list[dict[str, float | None]], floor: int
) -> None:
    schedule = Schedule(name="always", min_required_replicas=floor, cron="* * * * *", duration_s=300)
    for decision in run(replace(policy, schedules=(schedule,)), tide):
        assert decision.size >= min(floor, policy.max_replicas)
        asked = max(floor, policy.min_replicas, *(one.size for one in decision.calculations))
        assert decision.needed == min(asked, policy.max_replicas)

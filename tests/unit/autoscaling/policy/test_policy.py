"""Worked examples of Google's documentation, each cited, and what the API refuses.

decisions: "Understand autoscaler decisions" (2026-04-14). metrics: "Scale based on Monitoring metrics".
Examples of ours, for a rule that Google states without one, say "rule".
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lowtide.autoscaling.policy.decide import Decision, GroupState, Recommendation, SignalPoint, decide
from lowtide.autoscaling.policy.policy import Mode, Policy, ScaleInControl, Signal
from lowtide.autoscaling.policy.schedule import Schedule

NOW = 1_780_000_000.0
WORK = Signal(metric="custom/work", filter='resource.type = "global"', single_instance_assignment=5)
BACKLOG = Signal(
    metric="pubsub/undelivered",
    filter='resource.type = "pubsub_subscription" AND resource.labels.subscription_id = "s"',
    single_instance_assignment=10,
)
DAILY = Schedule(name="work", min_required_replicas=10, cron="30 8 * * Mon-Fri", duration_s=32400, time_zone="UTC")
POLICY = Policy(max_replicas=100, signals=(WORK,))


def series(*values: float) -> list[SignalPoint]:
    """One point a minute, the last of them now."""
    return [SignalPoint(at=NOW - 60 * (len(values) - 1 - i), value=value) for i, value in enumerate(values)]


def decided(
    policy: Policy = POLICY, *, size: int = 0, past: Sequence[tuple[float, int]] = (), **values: Any
) -> Decision:
    """A decision; `past`: (seconds ago, recommended size); `work`, `backlog`: newest values, None: missing."""
    metrics = {WORK.metric: values.get("work", 0.0), BACKLOG.metric: values.get("backlog", 0.0)}
    histories = {metric: [series(value)] if value is not None else [] for metric, value in metrics.items()}
    recommendations = tuple(Recommendation(at=NOW - ago, needed=past_size, size=past_size) for ago, past_size in past)
    return decide(policy, histories=histories, group=GroupState(size=size, recommendations=recommendations), now=NOW)


BOTH = replace(POLICY, signals=(WORK, BACKLOG))
CONTROLLED = replace(
    POLICY, stabilization_period_s=0, scale_in_control=ScaleInControl(time_window_s=600, max_scaled_in=3)
)
SHORT = replace(
    POLICY, stabilization_period_s=60, scale_in_control=ScaleInControl(time_window_s=600, max_scaled_in=100)
)


@pytest.mark.parametrize(
    ("source", "decision", "size"),
    [
        ("metrics: 100 of work at 5 for each VM are 20 VMs", decided(work=100), 20),
        ("metrics: work of zero and a minimum of zero: no VM", decided(work=0), 0),
        ("decisions, 'conservatively by rounding up': part of a VM is a VM", decided(work=101), 21),
        ("decisions, min and max instances (rule)", decided(work=1000), 100),
        ("decisions, min and max instances (rule)", decided(replace(POLICY, min_replicas=2), work=0), 2),
        ("multiple signals: the largest number of VMs", decided(BOTH, work=100, backlog=300), 30),
        ("multiple signals: the largest number of VMs", decided(BOTH, work=200, backlog=300), 40),
        ("Pub/Sub metrics as a signal, 2026-04-10: unavailable, count maintained", decided(size=7, work=None), 7),
        ("the same, one of two, inference: no scale-in", decided(BOTH, size=7, work=None, backlog=10), 7),
        ("the same, one of two, inference: scale-out", decided(BOTH, size=7, work=None, backlog=300), 30),
        ("decisions: peak load over 10 minutes", decided(size=20, past=[(599, 20)], work=25), 20),
        ("decisions: peak load over 10 minutes", decided(size=20, past=[(600, 20)], work=25), 5),
        ("the same, beside a longer window", decided(SHORT, size=20, past=[(60, 20)], work=25), 5),
        ("decisions: scale-out waits for nothing (rule)", decided(size=1, past=[(15, 1)], work=100), 20),
        ("compute_v1 ScaleInControl, fixed (rule)", decided(CONTROLLED, size=20, past=[(300, 20)], work=0), 17),
        ("compute_v1 ScaleInControl, window over (rule)", decided(CONTROLLED, size=20, past=[(600, 20)], work=0), 0),
        ("decisions, ONLY_SCALE_OUT", decided(replace(POLICY, mode=Mode.ONLY_SCALE_OUT), size=9, work=0), 9),
        ("decisions, ONLY_SCALE_OUT", decided(replace(POLICY, mode=Mode.ONLY_SCALE_OUT), size=9, work=100), 20),
    ],
)
def test_the_size_is_the_one_of_the_documentation(source: str, decision: Decision, size: int) -> None:
    assert decision.size == size, source


def test_series_of_one_filter_are_summed_but_for_stale_ones() -> None:
    """compute_v1.AutoscalingPolicyCustomMetricUtilization.filter."""
    stale = [SignalPoint(at=NOW - 300, value=500)]
    histories = {WORK.metric: [series(50), series(25), stale]}
    assert decide(POLICY, histories=histories, group=GroupState(), now=NOW).size == 15


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_what_no_metric_can_be_is_missing(value: float) -> None:
    assert decided(size=3, work=value).size == 3


@pytest.mark.parametrize(
    ("cron", "time_zone", "at", "active"),
    [
        # scaling-schedules: 30 8 * * Mon-Fri, for nine hours. 1_780_000_000 is Thursday 2026-05-28 20:26:40 UTC.
        (DAILY.cron, "UTC", NOW, False),
        (DAILY.cron, "America/New_York", NOW, True),  # 16:26 there
        (DAILY.cron, "UTC", NOW - 42_999, True),  # 08:30:01
        (DAILY.cron, "UTC", NOW - 43_000, True),  # 08:30:00
        (DAILY.cron, "UTC", NOW - 43_001, False),
        (DAILY.cron, "UTC", NOW - 10_600, False),  # 17:30:00, the end
        (DAILY.cron, "UTC", NOW - 10_601, True),
        (DAILY.cron + " 2026", "America/New_York", NOW, True),
        (DAILY.cron + " *", "America/New_York", NOW, True),
        (DAILY.cron + " 2025", "America/New_York", NOW, False),
        (DAILY.cron + " 2027", "America/New_York", NOW, False),
    ],
)
def test_a_schedule_is_active_from_its_start_for_its_duration(
    cron: str, time_zone: str, at: float, active: bool
) -> None:
    assert replace(DAILY, cron=cron, time_zone=time_zone).is_active(now=at) is active


def test_of_schedules_that_overlap_the_largest_counts_and_the_maximum_caps_it() -> None:
    """compute_v1.AutoscalingPolicy.scaling_schedules; page decisions."""
    always = replace(DAILY, cron="* * * * *")
    larger = replace(always, name="larger", min_required_replicas=20)
    off = replace(always, name="off", min_required_replicas=50, disabled=True)
    assert decided(replace(POLICY, schedules=(always, larger, off)), work=5).size == 20
    assert decided(replace(POLICY, schedules=(always, larger), max_replicas=15), work=5).size == 15
    assert decided(replace(POLICY, schedules=(always,)), work=100).size == 20


def test_the_reason_names_each_rule_that_took_part() -> None:
    decision = decided(BOTH, size=7, past=[(60, 9)], work=None, backlog=20)
    assert decision.reason == (
        "9: work is missing, so 7 are held; undelivered is 20 and asks for 2; 9 were needed in the last 600 s"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"min_replicas": 101}, "must hold"),
        ({"min_replicas": -1}, "must hold"),
        ({"signals": ()}, "needs a signal"),
        ({"signals": (WORK, WORK)}, "the same metric twice"),
        ({"signals": tuple(replace(WORK, metric=str(i)) for i in range(6))}, "at most 5 signals"),
        ({"schedules": (DAILY, DAILY)}, "the same schedule twice"),
        ({"schedules": tuple(replace(DAILY, name=str(i)) for i in range(129))}, "128 schedules"),
        ({"stabilization_period_s": 3601}, "0 to 3600"),
    ],
)
def test_a_policy_that_the_api_refuses_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(POLICY, **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"single_instance_assignment": 0}, "more than 0"),
        ({"filter": 'resource.type = "global" OR metric.labels.a = "b"'}, "by AND"),
        ({"filter": 'resource.type != "global"'}, "by AND"),
        ({"filter": 'resource.type = "global" AND metadata.user_labels.a = "b"'}, "metadata"),
        ({"filter": 'resource.type = "global" AND metric.type = "other"'}, "another metric"),
        ({"filter": 'resource.type = "gce_instance"'}, "not gce_instance"),
        ({"filter": 'metric.labels.fleet = "a"'}, "not gce_instance"),
    ],
)
def test_a_signal_that_the_api_refuses_or_that_pins_the_group_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(WORK, **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"duration_s": 299}, "less than 300"),
        ({"min_required_replicas": -1}, "negative"),
        ({"time_zone": "Mars/Base"}, "time zone"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "* * * * * 2026-2028"}, "five fields"),
        ({"cron": "* * * * * 0000"}, "a year from 0001"),
    ],
)
def test_a_schedule_that_the_api_refuses_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(DAILY, **arguments)


@pytest.mark.parametrize("arguments", [{"max_scaled_in": 0}, {"time_window_s": 0}])
def test_a_scale_in_control_lets_at_least_one_go_in_some_time(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="scale_in_control"):
        ScaleInControl(**{"time_window_s": 600, "max_scaled_in": 1, **arguments})


def test_the_query_is_the_filter_with_its_metric() -> None:
    assert WORK.query == 'metric.type = "custom/work" AND resource.type = "global"'


@pytest.mark.parametrize(
    ("cron", "duration_s", "zone", "on"),
    [
        ("59 2 * * *", 24 * 3600, "Europe/Berlin", "2026-10-25 02:00 fold"),
        ("59 2 * * *", 24 * 3600, "Europe/Berlin", "2026-10-25 02:58 fold"),
        ("30 2 * * *", 4 * 3600, "Europe/Berlin", "2026-10-25 02:15 fold"),
        ("30 1 * * *", 4 * 3600, "America/New_York", "2026-11-01 01:10 fold"),
        ("30 2 * * *", 4 * 3600, "Europe/Berlin", "2026-10-25 04:00"),
        ("0 1 * * *", 3 * 3600, "Europe/Berlin", "2026-03-29 04:30"),
    ],
)
def test_a_schedule_goes_on_when_the_clock_is_set_back_or_forth(cron: str, duration_s: int, zone: str, on: str) -> None:
    schedule = Schedule(name="s", min_required_replicas=1, cron=cron, duration_s=duration_s, time_zone=zone)
    wall = datetime.strptime(on.removesuffix(" fold"), "%Y-%m-%d %H:%M")
    assert schedule.is_active(now=wall.replace(tzinfo=ZoneInfo(zone), fold=on.endswith("fold")).timestamp())


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_the_first_and_the_last_year_that_a_calendar_has_are_years(year: str) -> None:
    assert not replace(DAILY, cron=f"0 8 * * * {year}").is_active(now=NOW)


@pytest.mark.parametrize("cron", ["0 8 29 2 * 0001", "0 8 29 2 * 0003", "0 0 1 1 * 0001"])
def test_a_schedule_that_never_began_is_not_active(cron: str) -> None:
    assert not replace(DAILY, cron=cron, time_zone="Asia/Tokyo").is_active(now=NOW)


def test_gaps_in_a_signal_hold_a_group_no_longer_than_they_last() -> None:
    group = GroupState(size=10, recommendations=(Recommendation(at=NOW, needed=10, size=10),))
    for minute in range(1, 30):
        points = [SignalPoint(at=NOW + 60 * minute, value=0)] if minute % 9 else []
        decision = decide(POLICY, histories={WORK.metric: [points]}, group=group, now=NOW + 60 * minute)
        group = decision.group
    assert decision.size == 0


def test_a_clock_that_is_set_back_leaves_no_peak_in_the_future() -> None:
    group = GroupState(size=10, recommendations=(Recommendation(at=NOW + 3600, needed=10, size=10),))
    assert decide(POLICY, histories={WORK.metric: [series(0)]}, group=group, now=NOW).size == 0

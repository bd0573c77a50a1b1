"""The instance group's autoscaler as a pure function: signals, policy, group and time in; a size and its reason out.

Compute Engine's own code is not public. Each rule names its source (see `policy`), or says that it is an inference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lowtide.autoscaling.policy.policy import Mode, Policy, Signal

STALE_AFTER_S = 300.0
"""A series without a point for so long is missing. Google gives no number: an inference, above the three minutes that
the newest point of Pub/Sub's metrics may be old (sampled each minute, shown up to two later)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalPoint:
    """What a series said at a time (seconds since 1970)."""

    at: float
    value: float


Series = Sequence[SignalPoint]
Histories = Mapping[str, Sequence[Series]]
"""By metric, the series that its filter selects, each in the order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What was decided once. `needed`: the size that the signals asked for that could be read; `size`: what was
    recommended after all rules but the mode's.
    """

    at: float
    needed: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """The group's target size, and the recommendations so far, as far back as the policy looks."""

    size: int = 0
    recommendations: tuple[Recommendation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculation:
    """What one signal asks for. `value` is None when it is missing: `size` then is the group's own."""

    metric: str
    value: float | None
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`size` is the group's next target size; `group` is what to pass to the next decision.

    `recommended_size` is the API's field of that name: it differs from `size` where the mode holds it back. `needed` is
    what signals and schedules ask for now, within the policy's limits.
    """

    size: int
    recommended_size: int
    needed: int
    calculations: tuple[Calculation, ...]
    reason: str
    group: GroupState


def decide(policy: Policy, *, histories: Histories, group: GroupState, now: float) -> Decision:
    """The size that the group gets at `now` (seconds since 1970).

    The largest of what signals and active schedules ask for (page "Autoscaling groups using multiple signals";
    compute_v1.AutoscalingPolicy.scaling_schedules), stabilized, slowed by the scale-in control, and always within the
    policy's limits (page `decisions`). Then the mode says whether the group follows.
    """
    calculations = tuple(
        _calculate(signal, histories.get(signal.metric, ()), group=group, now=now) for signal in policy.signals
    )
    floor = max((s.min_required_replicas for s in policy.schedules if s.is_active(now=now)), default=0)
    needed = policy.within_limits(max(floor, *(calculation.size for calculation in calculations), 0))
    # A clock that was set back has left some in the future.
    recent = [one for one in group.recommendations if 0 <= now - one.at < policy.window_s]
    stabilized = _stabilized(policy, needed=needed, recent=recent, now=now)
    recommended = policy.within_limits(max(stabilized, _scale_in_floor(policy, recent=recent, now=now)))
    size = _by_mode(policy.mode, recommended=recommended, current=group.size)
    latest = Recommendation(at=now, needed=_observed(policy, calculations, floor=floor), size=recommended)
    return Decision(
        size=size,
        recommended_size=recommended,
        needed=needed,
        calculations=calculations,
        reason=_reason(policy, calculations, (floor, needed, stabilized, recommended, size)),
        group=GroupState(size=size, recommendations=(*recent, latest)),
    )


def _calculate(signal: Signal, series: Sequence[Series], *, group: GroupState, now: float) -> Calculation:
    """What one signal asks for.

    Assignment: metric ÷ assignment, rounded up; zero asks for nothing (page `metrics`: 100 ÷ 5 = 20). That the newest
    point counts is an inference.

    Missing: "maintain the current replica count when metrics are unavailable" (Pub/Sub, "Best practices for using
    Pub/Sub metrics as a scaling signal", 2026-04-10). That with several signals the others may still ask for more, and
    not for less, is an inference from that sentence and the maximum.
    """
    value = _value(series, now=now)
    if value is None:
        return Calculation(metric=signal.metric, value=None, size=group.size)
    return Calculation(metric=signal.metric, value=value, size=_up(value / signal.single_instance_assignment))


def _up(machines: float) -> int:
    """Rounded up (page `decisions`: 1.5 machines more are two), but for what floating point adds."""
    machines = min(machines, 1e9)  # the policy's maximum comes later; a float may be infinite
    return math.ceil(round(machines, 9)) or math.ceil(machines)


def _value(series: Sequence[Series], *, now: float) -> float | None:
    """The signal's value: the sum over its series (compute_v1…CustomMetricUtilization.filter); None: missing.

    A series counts if it has a point that is not stale. Metrics are not negative (page `metrics`): that a negative
    point or one that is no number counts as missing is an inference, as is leaving out points of the future.
    """
    values = []
    for points in series:
        fresh = [
            one for one in points if 0 <= now - one.at < STALE_AFTER_S and one.value >= 0 and math.isfinite(one.value)
        ]
        if fresh:
            values.append(fresh[-1].value)
    return sum(values) if values else None


def _observed(policy: Policy, calculations: Sequence[Calculation], *, floor: int) -> int:
    """What was needed by what was there to be read: a size that is held is no load that anybody observed (page
    `decisions`, "peak load observed"), or gaps that come more often than the period would hold a group for ever. An
    inference.
    """
    return policy.within_limits(max([floor, *(one.size for one in calculations if one.value is not None)]))


def _stabilized(policy: Policy, *, needed: int, recent: Sequence[Recommendation], now: float) -> int:
    """The peak of what was needed over the stabilization period.

    Page `decisions`: the size handles the "peak load observed over the stabilization period". So more is given at once,
    less only when the period has passed.
    """
    return max([needed, *(one.needed for one in recent if now - one.at < policy.stabilization_period_s)])


def _scale_in_floor(policy: Policy, *, recent: Sequence[Recommendation], now: float) -> int:
    """The highest recommendation of the control's window less what may go (compute_v1.…ScaleInControl).

    The recommendations are those that the control let pass, so a large group shrinks by steps (an inference: Google
    speaks of the "peak recommendation" in one place and of the peak size in another).
    """
    control = policy.scale_in_control
    if control is None:
        return 0
    peak = max((one.size for one in recent if now - one.at < control.time_window_s), default=0)
    return peak - control.max_scaled_in


def _by_mode(mode: Mode, *, recommended: int, current: int) -> int:
    return max(current, recommended) if mode is Mode.ONLY_SCALE_OUT else recommended


def _reason(policy: Policy, calculations: Sequence[Calculation], sizes: tuple[int, int, int, int, int]) -> str:
    floor, needed, stabilized, recommended, size = sizes
    parts = [_sentence(calculation) for calculation in calculations]
    if floor:
        parts.append(f"a schedule asks for {floor}")
    asked = max([floor, *(calculation.size for calculation in calculations)])
    if needed != asked:
        parts.append(f"the limits are {policy.min_replicas} to {policy.max_replicas}")
    if stabilized > needed:
        parts.append(f"{stabilized} were needed in the last {policy.stabilization_period_s} s")
    if recommended > stabilized:
        parts.append(f"the scale-in control holds {recommended}")
    if size != recommended:
        parts.append(f"mode {policy.mode} keeps {size} where {recommended} are recommended")
    return f"{size}: " + "; ".join(parts or ["no schedule is active"])


def _sentence(calculation: Calculation) -> str:
    name = calculation.metric.rpartition("/")[2]
    if calculation.value is None:
        return f"{name} is missing, so {calculation.size} are held"
    return f"{name} is {calculation.value:g} and asks for {calculation.size}"

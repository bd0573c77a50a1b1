"""An autoscaling policy as Compute Engine's API takes it, so far as a group that may be empty can have one.

Sources, named in the docstrings: `compute_v1` is the reference of google-cloud-compute 1.57; `decisions` is Google's
page "Understand autoscaler decisions" (2026-04-14), `metrics` is "Scale based on Monitoring metrics".
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from lowtide.autoscaling.policy.schedule import Schedule

MAX_SIGNALS = 5
"""Page `metrics`: up to five Monitoring metrics in one policy."""
MAX_SCHEDULES = 128
"""compute_v1.AutoscalingPolicy.scaling_schedules."""
MAX_STABILIZATION_S = 3600
"""Release notes of Compute Engine, 2026-06-11."""

_SELECTOR = r'[\w.]+\s*=\s*"[^"]*"'


class Mode(StrEnum):
    """What becomes of a recommendation. Source: page `decisions`; compute_v1.AutoscalingPolicy.mode."""

    ON = "ON"
    """The group takes the recommended size."""
    ONLY_SCALE_OUT = "ONLY_SCALE_OUT"
    """The group's size is only ever raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One Monitoring metric that speaks for the whole group, and how much of it is work for one machine.

    `filter` selects its series: `key = "value"`, joined by AND, nothing else. It must name a `resource.type` other than
    gce_instance: without one, the metric is taken to come from each machine, and a group with such a signal is never
    empty (page `decisions`). Source: compute_v1.AutoscalingPolicyCustomMetricUtilization. Raises ValueError.
    """

    metric: str
    filter: str
    single_instance_assignment: float

    def __post_init__(self) -> None:
        _check_positive(f"{self.metric}: single_instance_assignment", self.single_instance_assignment)
        if not re.fullmatch(rf"{_SELECTOR}(\s+AND\s+{_SELECTOR})*", self.filter.strip()):
            raise ValueError(f'{self.metric}: the filter may only join key = "value" by AND: {self.filter}')
        self._check_selectors()

    def _check_selectors(self) -> None:
        selectors = self.selectors
        if any(key.startswith("metadata.") for key in selectors):
            raise ValueError(f"{self.metric}: a filter can't use metadata")
        if selectors.get("metric.type", self.metric) != self.metric:
            raise ValueError(f"{self.metric}: the filter names another metric, {selectors['metric.type']}")
        if selectors.get("resource.type", "gce_instance") == "gce_instance":
            raise ValueError(f"{self.metric}: the filter must name a resource.type that is not gce_instance")

    @property
    def selectors(self) -> dict[str, str]:
        """The filter, by key."""
        return dict(re.findall(r'([\w.]+)\s*=\s*"([^"]*)"', self.filter))

    @property
    def query(self) -> str:
        """The filter for Cloud Monitoring's ListTimeSeries, with the metric in it."""
        return " AND ".join(
            f'{key} = "{value}"' for key, value in {"metric.type": self.metric, **self.selectors}.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleInControl:
    """At most so many machines below the highest recommendation of the window.

    Source: compute_v1.AutoscalingPolicyScaleInControl. Raises ValueError.
    """

    time_window_s: int
    max_scaled_in: int

    def __post_init__(self) -> None:
        _check_positive("scale_in_control: time_window_s", self.time_window_s)
        _check_positive("scale_in_control: max_scaled_in", self.max_scaled_in)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the autoscaler may do. Source: compute_v1.AutoscalingPolicy. Raises ValueError on what the API refuses.

    Its coolDownPeriodSec only makes data of machines that start be ignored: it changes nothing with signals that speak
    for the whole group, never delays a scale-in, and is left out here.
    """

    min_replicas: int = 0
    max_replicas: int
    signals: tuple[Signal, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    stabilization_period_s: int = 600
    scale_in_control: ScaleInControl | None = None
    mode: Mode = Mode.ON

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(f"0 <= min_replicas ({self.min_replicas}) <= max_replicas ({self.max_replicas}) must hold")
        if not self.signals and not self.schedules:
            raise ValueError("a policy needs a signal or a schedule")
        if len(self.signals) > MAX_SIGNALS or len(self.schedules) > MAX_SCHEDULES:
            raise ValueError(f"a policy has at most {MAX_SIGNALS} signals and {MAX_SCHEDULES} schedules")
        if not 0 <= self.stabilization_period_s <= MAX_STABILIZATION_S:
            raise ValueError(f"stabilization_period_s must be from 0 to {MAX_STABILIZATION_S}")
        _check_unique("metric", [signal.metric for signal in self.signals])
        _check_unique("schedule", [schedule.name for schedule in self.schedules])

    @property
    def window_s(self) -> int:
        """How far back a decision looks at earlier recommendations."""
        return max(self.stabilization_period_s, self.scale_in_control.time_window_s if self.scale_in_control else 0)

    def within_limits(self, size: int) -> int:
        """`size`, at least `min_replicas`, and whatever else asks for more, at most `max_replicas`."""
        return min(max(size, self.min_replicas), self.max_replicas)


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be more than 0, not {value}")


def _check_unique(kind: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"the same {kind} twice in one policy: {', '.join(twice)}")

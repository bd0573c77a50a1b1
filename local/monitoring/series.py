"""What the server stores: descriptors of metrics, and time series with their points."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lowtide.local.monitoring.filters import Filter

Kind = Literal["GAUGE", "CUMULATIVE"]
ValueType = Literal["BOOL", "INT64", "DOUBLE", "STRING", "DISTRIBUTION"]
Value = bool | int | float | str | bytes
"""Bytes: a serialized google.api.Distribution, which is kept as it came."""

Labels = tuple[tuple[str, str], ...]

POINTS_MAX = 25 * 3600 // 5
"""Of one series: 25 hours of a point each 5 s, 5 hours of one each second. The real one: six weeks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A metric. `labels`: key → description."""

    type: str
    kind: Kind
    value_type: ValueType
    unit: str = ""
    description: str = ""
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two series the same."""

    metric_type: str
    metric_labels: Labels = ()
    resource_type: str
    resource_labels: Labels = ()

    def matches(self, wanted: Filter) -> bool:
        """Whether a filter selects it. A label that it does not have is empty."""
        metric, resource = dict(self.metric_labels), dict(self.resource_labels)
        return (
            self.metric_type == wanted.metric_type
            and wanted.resource_type in (None, self.resource_type)
            and all(metric.get(key, "") == value for key, value in wanted.metric_labels.items())
            and all(resource.get(key, "") == value for key, value in wanted.resource_labels.items())
        )


def sorted_labels(labels: Iterable[tuple[str, str]]) -> Labels:
    """In one order, whatever order they came in."""
    return tuple(sorted(labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value at `end_s`, or of the time from `start_s` to it. Seconds since 1970; whole nanoseconds on the wire."""

    start_s: float
    end_s: float
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One series of a CreateTimeSeries with its point. `kind` None: its metric's, GAUGE where it is new."""

    identity: Identity
    kind: Kind | None
    value_type: ValueType
    point: Point


@dataclass(slots=True, kw_only=True)
class TimeSeries:
    """A series, oldest point first."""

    identity: Identity
    kind: Kind
    value_type: ValueType
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))

"""The rules of CreateTimeSeries. Pure: each raises InvalidArgument in the words of the real service, so far as known.

Sources: google/monitoring/v3/metric_service.proto and metric.proto (google-cloud-monitoring 2.32); "Create custom
metrics with the API"; "Quotas and limits" of Cloud Monitoring; field reports where the pages are silent.
"""

import math
import re

from lowtide.local.errors import InvalidArgument
from lowtide.local.monitoring.series import Descriptor, Kind, Point, TimeSeries, Write

SERIES_PER_REQUEST = 200
"""CreateTimeSeriesRequest.time_series."""
LABELS_MAX = 30
"""Quotas: labels of a custom metric."""
SAMPLING_S = 5.0
"""Quotas: "the rate at which data can be written to a single time series" is one point each 5 seconds."""
GAP_S = 0.001
"""TimeInterval: a cumulative metric that was reset begins at least a millisecond after its last interval."""
GAUGE_ONLY = ("BOOL", "STRING")
PAST_MAX_S = 25 * 3600.0
FUTURE_MAX_S = 5 * 60.0
"""Point.interval: not more than 25 hours ago, not more than five minutes in the future."""
RESOURCES = frozenset(
    {
        "aws_ec2_instance",
        "dataflow_job",
        "gae_instance",
        "gce_instance",
        "generic_node",
        "generic_task",
        "gke_container",
        "global",
        "k8s_cluster",
        "k8s_container",
        "k8s_node",
        "k8s_pod",
    }
)
"""What custom metrics may be written against ("Create custom metrics with the API", Choose a monitored resource)."""

_TYPE = re.compile(r"(custom|external)\.googleapis\.com(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


def check_descriptor(descriptor: Descriptor) -> None:
    """The name, the labels, and what may be a gauge alone (MetricDescriptor.ValueType)."""
    _check_type(descriptor.type)
    _check_labels(list(descriptor.labels))
    if descriptor.value_type in GAUGE_ONLY and descriptor.kind != "GAUGE":
        raise InvalidArgument(f"A metric with values of type {descriptor.value_type} must be a GAUGE")


def check_write(write: Write, *, kind: Kind, descriptor: Descriptor | None, now_s: float) -> None:
    """One series of a request by itself. `descriptor`: of its metric, None for one that is new."""
    identity = write.identity
    _check_type(identity.metric_type)
    _check_labels([key for key, _ in identity.metric_labels])
    if identity.resource_type not in RESOURCES:
        raise InvalidArgument(f"The metric can't be written against the resource type {identity.resource_type!r}")
    if descriptor is None and write.value_type == "STRING":  # TimeSeries.points
        raise InvalidArgument(f"Create the descriptor of {identity.metric_type} first: its values are of type STRING")
    if descriptor and descriptor.kind != kind:
        raise InvalidArgument(f"Metric kind for metric {identity.metric_type} must be {descriptor.kind}")
    if descriptor and descriptor.value_type != write.value_type:
        raise InvalidArgument(f"Value type for metric {identity.metric_type} must be {descriptor.value_type}")
    if unknown := [key for key, _ in identity.metric_labels if descriptor and key not in descriptor.labels]:
        raise InvalidArgument(f"Unrecognized metric labels: {', '.join(unknown)}")
    if isinstance(write.point.value, float) and not math.isfinite(write.point.value):
        raise InvalidArgument("A value must be a finite number")
    _check_times(write.point, kind=kind, now_s=now_s)


def check_order(write: Write, series: TimeSeries) -> None:
    """A point beside the ones that its series has."""
    if not series.points:
        return
    newest, point = series.points[-1], write.point
    reset = series.kind == "CUMULATIVE" and point.start_s != newest.start_s
    if point.end_s <= newest.end_s or (reset and point.start_s < newest.end_s + GAP_S):
        raise InvalidArgument(
            "Points must be written in order. One or more of the points specified had an older start time than the "
            "most recent point."
        )
    if point.end_s - newest.end_s < SAMPLING_S:
        raise InvalidArgument(
            "One or more points were written more frequently than the maximum sampling period configured for the "
            "metric."
        )


def _check_times(point: Point, *, kind: Kind, now_s: float) -> None:
    if kind == "GAUGE" and point.start_s != point.end_s:
        raise InvalidArgument("The start time of a gauge must be equal to its end time, or left out")
    if kind == "CUMULATIVE" and point.start_s >= point.end_s:
        raise InvalidArgument("The start time of a cumulative metric must be before its end time")
    if point.end_s < now_s - PAST_MAX_S:
        raise InvalidArgument("Data points cannot be written more than 25h in the past")
    if point.end_s > now_s + FUTURE_MAX_S:
        raise InvalidArgument("Data points cannot be written more than 5 minutes in the future")


def _check_type(metric_type: str) -> None:
    if not _TYPE.fullmatch(metric_type) or len(metric_type) > 200:
        raise InvalidArgument(
            f"The metric type must be a URL-formatted string with a domain and non-empty path below "
            f"custom.googleapis.com or external.googleapis.com: {metric_type!r}"
        )


def _check_labels(keys: list[str]) -> None:
    if len(keys) > LABELS_MAX:
        raise InvalidArgument(f"A metric has at most {LABELS_MAX} labels, not {len(keys)}")
    if bad := [key for key in keys if not _LABEL.fullmatch(key)]:
        raise InvalidArgument(f"Invalid label key: {bad[0]!r}")

"""google.monitoring.v3 on the wire → descriptors, writes and series, and back. Raises InvalidArgument, Unsupported."""

from collections.abc import Sequence
from typing import TypeVar, cast, get_args

from google.api import metric_pb2
from google.cloud.monitoring_v3 import types
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

from lowtide.local.errors import InvalidArgument, PartlyWritten, Unsupported
from lowtide.local.monitoring.series import (
    Descriptor,
    Identity,
    Kind,
    Point,
    TimeSeries,
    Value,
    ValueType,
    Write,
    sorted_labels,
)
from lowtide.local.wire import Protobuf, check_supported

T = TypeVar("T")

POINTS_PER_PAGE = 10_000
"""Below the 100,000 of ListTimeSeriesRequest.page_size: a client with a plain channel receives no more than 4 MiB."""

DESCRIPTORS_PER_PAGE = 10_000
"""ListMetricDescriptorsRequest.page_size."""

Kinds = metric_pb2.MetricDescriptor.MetricKind
ValueTypes = metric_pb2.MetricDescriptor.ValueType

_DESCRIPTOR_FIELDS = {"name", "type", "labels", "metric_kind", "value_type", "unit", "description", "display_name"}
_SERIES_FIELDS = {"metric", "resource", "metric_kind", "value_type", "points", "metadata"}
"""`metadata` is ignored when a series is written, says the reference."""


def project_from(name: str) -> str:
    """Of `projects/<project>`."""
    kind, _, project = name.partition("/")
    if kind != "projects" or not project or "/" in project:
        raise InvalidArgument(f"Name must begin with 'projects/': {name!r}")
    return project


def metric_from(name: str) -> tuple[str, str]:
    """Project and type of `projects/<project>/metricDescriptors/<type>`."""
    owner, mark, metric_type = name.partition("/metricDescriptors/")
    if not mark:
        raise InvalidArgument(f"Expected projects/…/metricDescriptors/…, not {name!r}")
    return project_from(owner), metric_type


def descriptor_from(sent: Protobuf) -> Descriptor:
    """Of a google.api.MetricDescriptor."""
    check_supported(sent, _DESCRIPTOR_FIELDS, "a descriptor's", service="monitoring")
    if any(label.value_type for label in sent.labels):
        raise Unsupported("labels that are not strings")
    return Descriptor(
        type=sent.type,
        kind=_kind(sent.metric_kind),
        value_type=_value_type(sent.value_type),
        unit=sent.unit,
        description=sent.description,
        display_name=sent.display_name,
        labels={label.key: label.description for label in sent.labels},
    )


def descriptor_to(descriptor: Descriptor, project: str) -> Protobuf:
    """As a google.api.MetricDescriptor."""
    return metric_pb2.MetricDescriptor(
        name=f"projects/{project}/metricDescriptors/{descriptor.type}",
        type=descriptor.type,
        metric_kind=descriptor.kind,
        value_type=descriptor.value_type,
        unit=descriptor.unit,
        description=descriptor.description,
        display_name=descriptor.display_name,
        labels=[{"key": key, "description": text} for key, text in descriptor.labels.items()],
    )


def write_from(series: Protobuf, *, place: int) -> Write:
    """Of a TimeSeries, the `place`th of its request."""
    check_supported(series, _SERIES_FIELDS, "a time series'", service="monitoring")
    if len(series.points) != 1:
        raise InvalidArgument(
            f"Field timeSeries[{place}].points had an invalid value: Only one point can be written per TimeSeries per "
            f"request, not {len(series.points)}."
        )
    point, value_type = series.points[0], _point_type(series, place=place)
    if not point.interval.HasField("end_time"):
        raise InvalidArgument(f"Field timeSeries[{place}].points[0].interval.end_time is required")
    end_s = seconds(point.interval.end_time)
    return Write(
        identity=Identity(
            metric_type=series.metric.type,
            metric_labels=sorted_labels(series.metric.labels.items()),
            resource_type=series.resource.type,
            resource_labels=sorted_labels(series.resource.labels.items()),
        ),
        kind=_kind(series.metric_kind) if series.metric_kind else None,
        value_type=value_type,
        point=Point(
            start_s=seconds(point.interval.start_time) if point.interval.HasField("start_time") else end_s,
            end_s=end_s,
            value=_value_from(point.value, value_type),
        ),
    )


def series_page(found: Sequence[TimeSeries], *, size: int, token: str, headers: bool) -> Protobuf:
    """One ListTimeSeriesResponse: `size` counts series when only headers are wanted, else points."""
    flat = [(series, point) for series in found for point in ([None] if headers else series.points)]
    shown, next_token = page(flat, size=size, token=token, size_max=POINTS_PER_PAGE)
    response = types.ListTimeSeriesResponse.pb()(next_page_token=next_token)
    last = None
    for series, point in shown:
        if last is not series:
            response.time_series.append(_series_to(series))
            last = series
        if point is not None:
            response.time_series[-1].points.append(_point_to(point, series.value_type))
    return response


def page(items: Sequence[T], *, size: int, token: str, size_max: int) -> tuple[Sequence[T], str]:
    """Some of the items, and the token of the next page: where it begins."""
    if size < 0:
        raise InvalidArgument(f"Invalid page_size: {size}")
    if token and not token.isdecimal():
        raise InvalidArgument(f"Invalid page_token: {token!r}")
    first = int(token or 0)
    end = first + min(size or size_max, size_max)
    return items[first:end], str(end) if len(items) > end else ""


def status_to(error: PartlyWritten) -> Protobuf:
    """A google.rpc.Status with the CreateTimeSeriesSummary that the real service sends along."""
    summary = types.CreateTimeSeriesSummary.pb()(
        total_point_count=error.total, success_point_count=error.total - len(error.refused)
    )
    reasons = [why for _, why in error.refused]
    for why in dict.fromkeys(reasons):
        status = {"code": code_pb2.INVALID_ARGUMENT, "message": why}
        summary.errors.add(status=status, point_count=reasons.count(why))
    detail = any_pb2.Any()
    detail.Pack(summary)
    return status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=str(error), details=[detail])


def seconds(timestamp: Protobuf) -> float:
    """Since 1970, to about a quarter of a microsecond."""
    since_1970_s: float = timestamp.ToNanoseconds() / 1e9
    return since_1970_s


def _series_to(series: TimeSeries) -> Protobuf:
    identity = series.identity
    sent = types.TimeSeries.pb()(metric_kind=Kinds.Value(series.kind), value_type=ValueTypes.Value(series.value_type))
    sent.metric.type = identity.metric_type
    sent.metric.labels.update(identity.metric_labels)
    sent.resource.type = identity.resource_type
    sent.resource.labels.update(identity.resource_labels)
    return sent


def _point_to(point: Point, value_type: ValueType) -> Protobuf:
    sent = types.Point.pb()()
    # Whole microseconds come back as they were sent, until 2038; a float cannot tell more.
    sent.interval.start_time.FromMicroseconds(round(point.start_s * 1e6))
    sent.interval.end_time.FromMicroseconds(round(point.end_s * 1e6))
    if isinstance(point.value, bytes):
        sent.value.distribution_value.ParseFromString(point.value)
    else:
        setattr(sent.value, _field(value_type), point.value)
    return sent


def _point_type(series: Protobuf, *, place: int) -> ValueType:
    field = series.points[0].value.WhichOneof("value")
    if field is None:
        raise InvalidArgument(f"Field timeSeries[{place}].points[0].value is required")
    [value_type] = [name for name in get_args(ValueType) if _field(name) == field]
    if series.value_type and series.value_type != ValueTypes.Value(value_type):
        raise InvalidArgument(f"Field timeSeries[{place}].valueType must be that of its point, {value_type}")
    return cast("ValueType", value_type)


def _value_from(value: Protobuf, value_type: ValueType) -> Value:
    found = getattr(value, _field(value_type))
    return cast("Value", found.SerializeToString() if value_type == "DISTRIBUTION" else found)


def _field(value_type: ValueType) -> str:
    """Where a TypedValue has it."""
    return f"{value_type.lower()}_value"


def _kind(number: int) -> Kind:
    name = _name(Kinds.items(), number)
    if name not in get_args(Kind):
        raise InvalidArgument(f"A custom metric is a GAUGE or CUMULATIVE, not {name}")
    return cast("Kind", name)


def _value_type(number: int) -> ValueType:
    name = _name(ValueTypes.items(), number)
    if name not in get_args(ValueType):
        raise InvalidArgument(f"A custom metric has values of type {', '.join(get_args(ValueType))}, not {name}")
    return cast("ValueType", name)


def _name(members: Sequence[tuple[str, int]], number: int) -> str:
    """Of an enum: a number that it does not know is its own name."""
    return {value: name for name, value in members}.get(number, str(number))

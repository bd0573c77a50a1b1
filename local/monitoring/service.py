"""The service google.monitoring.v3.MetricService, and the messages on its wire."""

from collections.abc import Awaitable, Callable
from typing import Any, get_args

import grpc
from google.api import metric_pb2
from google.cloud.monitoring_v3 import types
from google.protobuf import empty_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

from lowtide.local.monitoring.errors import InvalidArgument, MonitoringError, PartlyWritten, Unsupported
from lowtide.local.monitoring.filters import parse
from lowtide.local.monitoring.series import (
    Descriptor,
    Identity,
    Kind,
    Point,
    TimeSeries,
    ValueType,
    Write,
    sorted_labels,
)
from lowtide.local.monitoring.state import MonitoringState

Protobuf = Any
"""Generated classes: protobuf's attributes are not known to mypy."""

PAGE_MAX = 100_000
"""ListTimeSeriesRequest.page_size: at most so many points."""

Kinds = metric_pb2.MetricDescriptor.MetricKind
ValueTypes = metric_pb2.MetricDescriptor.ValueType
_FIELDS = {"bool_value": "BOOL", "int64_value": "INT64", "double_value": "DOUBLE"}


class MetricService:
    """Answers requests from the state, one at a time. `refusal`: a gRPC status and a text with which every write is
    refused while it is set, as a service in trouble does.
    """

    def __init__(self, state: MonitoringState, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self.refusal: tuple[grpc.StatusCode, str] | None = None

    def handler(self) -> Any:
        """The generic gRPC handler. What is not in it answers UNIMPLEMENTED."""
        answers: dict[str, tuple[Callable[[Protobuf], Protobuf], Any]] = {
            "CreateMetricDescriptor": (self.create_descriptor, types.CreateMetricDescriptorRequest),
            "GetMetricDescriptor": (self.get_descriptor, types.GetMetricDescriptorRequest),
            "ListMetricDescriptors": (self.list_descriptors, types.ListMetricDescriptorsRequest),
            "DeleteMetricDescriptor": (self.delete_descriptor, types.DeleteMetricDescriptorRequest),
            "CreateTimeSeries": (self.create_time_series, types.CreateTimeSeriesRequest),
            "ListTimeSeries": (self.list_time_series, types.ListTimeSeriesRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._answering(answer),
                request_deserializer=request.pb().FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, (answer, request) in answers.items()
        }
        return grpc.method_handlers_generic_handler("google.monitoring.v3.MetricService", handlers)

    def create_descriptor(self, request: Protobuf) -> Protobuf:
        """Create or update."""
        sent, project = request.metric_descriptor, _project(request.name)
        if any(label.value_type for label in sent.labels):
            raise Unsupported("labels that are not strings")
        descriptor = Descriptor(
            type=sent.type,
            kind=_kind(sent.metric_kind),
            value_type=_value_type(sent.value_type),
            unit=sent.unit,
            description=sent.description,
            display_name=sent.display_name,
            labels={label.key: label.description for label in sent.labels},
        )
        return _descriptor_to(self._state.create_descriptor(project, descriptor), project)

    def get_descriptor(self, request: Protobuf) -> Protobuf:
        """One metric."""
        project, metric_type = _metric(request.name)
        return _descriptor_to(self._state.descriptor(project, metric_type), project)

    def list_descriptors(self, request: Protobuf) -> Protobuf:
        """All metrics of a project, in one page."""
        if request.filter:
            raise Unsupported("ListMetricDescriptors.filter")
        project = _project(request.name)
        return types.ListMetricDescriptorsResponse.pb()(
            metric_descriptors=[_descriptor_to(one, project) for one in self._state.descriptors(project)]
        )

    def delete_descriptor(self, request: Protobuf) -> Protobuf:
        """With its points."""
        self._state.delete_descriptor(*_metric(request.name))
        return empty_pb2.Empty()

    def create_time_series(self, request: Protobuf) -> Protobuf:
        """Some may be written and some refused: the error then tells which, as the real one does."""
        writes = [_write_from(series) for series in request.time_series]
        refused = self._state.write(_project(request.name), writes, now_s=self._clock())
        if refused:
            said = "; ".join(f"timeSeries[{place}]: {why}" for place, why in refused)
            raise PartlyWritten(
                f"One or more TimeSeries could not be written: {said}", total=len(writes), refused=len(refused)
            )
        return empty_pb2.Empty()

    def list_time_series(self, request: Protobuf) -> Protobuf:
        """Newest points first. Raises Unsupported for aggregation and order."""
        if request.HasField("aggregation") or request.HasField("secondary_aggregation") or request.order_by:
            raise Unsupported("aggregation and order_by of ListTimeSeries")
        if not request.interval.HasField("end_time"):
            raise InvalidArgument("interval.end_time is required")
        has_start = request.interval.HasField("start_time")
        found = self._state.read(
            _project(request.name),
            parse(request.filter),
            start_s=_seconds(request.interval.start_time) if has_start else None,
            end_s=_seconds(request.interval.end_time),
        )
        headers = request.view == types.ListTimeSeriesRequest.TimeSeriesView.HEADERS
        return _page(found, size=request.page_size, token=request.page_token, headers=headers)

    def _answering(self, answer: Callable[[Protobuf], Protobuf]) -> Callable[[Protobuf, Any], Awaitable[Protobuf]]:
        async def call(request: Protobuf, context: Any) -> Protobuf:
            if self.refusal and answer == self.create_time_series:
                await context.abort(*self.refusal)
            try:
                return answer(request)
            except PartlyWritten as error:
                status = rpc_status.to_status(_summary(error))
                await context.abort(status.code, status.details, status.trailing_metadata)
            except MonitoringError as error:
                await context.abort(grpc.StatusCode[error.code], str(error))

        return call


def _summary(error: PartlyWritten) -> Protobuf:
    """The status with the summary that the real service puts into it."""
    counted = types.CreateTimeSeriesSummary.pb()(
        total_point_count=error.total, success_point_count=error.total - error.refused
    )
    status = status_pb2.Status(code=grpc.StatusCode[error.code].value[0], message=str(error))
    status.details.add().Pack(counted)
    return status


def _page(found: list[TimeSeries], *, size: int, token: str, headers: bool) -> Protobuf:
    """One page: `size` counts series when only headers are wanted, else points. The token is where the next begins."""
    flat = [(series, point) for series in found for point in ([None] if headers else series.points)]
    first, count = int(token or 0), min(size or PAGE_MAX, PAGE_MAX)
    response = types.ListTimeSeriesResponse.pb()()
    last = None
    for series, point in flat[first : first + count]:
        if last is not series:
            response.time_series.append(_series_to(series))
            last = series
        if point is not None:
            response.time_series[-1].points.append(_point_to(point, series.value_type))
    if len(flat) > first + count:
        response.next_page_token = str(first + count)
    return response


def _write_from(series: Protobuf) -> Write:
    if len(series.points) != 1:
        raise InvalidArgument(f"Field timeSeries.points had {len(series.points)} points: it must have one")
    [point] = series.points
    field = point.value.WhichOneof("value")
    if field not in _FIELDS:
        raise Unsupported(f"values of type {field}") if field else InvalidArgument("A point is missing its value")
    if not point.interval.HasField("end_time"):
        raise InvalidArgument("Field timeSeries.points.interval.end_time is required")
    end_s = _seconds(point.interval.end_time)
    return Write(
        identity=Identity(
            metric_type=series.metric.type,
            metric_labels=sorted_labels(series.metric.labels.items()),
            resource_type=series.resource.type,
            resource_labels=sorted_labels(series.resource.labels.items()),
        ),
        kind=_kind(series.metric_kind or Kinds.GAUGE),
        value_type=_value_type(ValueTypes.Value(_FIELDS[field])),
        point=Point(
            start_s=_seconds(point.interval.start_time) if point.interval.HasField("start_time") else end_s,
            end_s=end_s,
            value=getattr(point.value, field),
        ),
    )


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
    sent.interval.start_time.FromNanoseconds(round(point.start_s * 1e9))
    sent.interval.end_time.FromNanoseconds(round(point.end_s * 1e9))
    setattr(sent.value, f"{value_type.lower()}_value", point.value)
    return sent


def _descriptor_to(descriptor: Descriptor, project: str) -> Protobuf:
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


def _kind(number: int) -> Kind:
    name: Any = Kinds.Name(number)
    if name not in get_args(Kind):
        raise InvalidArgument(f"A custom metric is a GAUGE or CUMULATIVE, not {name}")
    kind: Kind = name
    return kind


def _value_type(number: int) -> ValueType:
    name: Any = ValueTypes.Name(number)
    if name not in get_args(ValueType):
        raise Unsupported(f"values of type {name}")
    value_type: ValueType = name
    return value_type


def _seconds(timestamp: Protobuf) -> float:
    seconds: float = timestamp.ToNanoseconds() / 1e9
    return seconds


def _project(name: str) -> str:
    kind, _, project = name.partition("/")
    if kind != "projects" or not project or "/" in project:
        raise InvalidArgument(f"Name must begin with 'projects/': {name!r}")
    return project


def _metric(name: str) -> tuple[str, str]:
    owner, mark, metric_type = name.partition("/metricDescriptors/")
    if not mark:
        raise InvalidArgument(f"Expected projects/…/metricDescriptors/…, not {name!r}")
    return _project(owner), metric_type

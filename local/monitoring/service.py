"""The service google.monitoring.v3.MetricService."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.cloud.monitoring_v3 import types
from google.protobuf import empty_pb2
from grpc_status import rpc_status

from lowtide.local.errors import InvalidArgument, PartlyWritten, Refusal, Unsupported
from lowtide.local.monitoring import translate
from lowtide.local.monitoring.filters import parse
from lowtide.local.monitoring.state import MonitoringState
from lowtide.local.monitoring.translate import Protobuf


class MetricService:
    """Answers requests from the state, one at a time, on the server's thread. `refusal`: a gRPC status and a text with
    which every write is refused while it is set, as a service in trouble does.
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
        project = translate.project_from(request.name)
        descriptor = translate.descriptor_from(request.metric_descriptor)
        return translate.descriptor_to(self._state.create_descriptor(project, descriptor), project)

    def get_descriptor(self, request: Protobuf) -> Protobuf:
        """One metric."""
        project, metric_type = translate.metric_from(request.name)
        return translate.descriptor_to(self._state.descriptor(project, metric_type), project)

    def list_descriptors(self, request: Protobuf) -> Protobuf:
        """A page of a project's metrics."""
        if request.filter:
            raise Unsupported("ListMetricDescriptors.filter")
        project = translate.project_from(request.name)
        shown, token = translate.page(
            self._state.descriptors(project),
            size=request.page_size,
            token=request.page_token,
            size_max=translate.DESCRIPTORS_PER_PAGE,
        )
        return types.ListMetricDescriptorsResponse.pb()(
            metric_descriptors=[translate.descriptor_to(one, project) for one in shown], next_page_token=token
        )

    def delete_descriptor(self, request: Protobuf) -> Protobuf:
        """With its points."""
        self._state.delete_descriptor(*translate.metric_from(request.name))
        return empty_pb2.Empty()

    def create_time_series(self, request: Protobuf) -> Protobuf:
        """Raises PartlyWritten when some are refused; the others are written."""
        writes = [translate.write_from(series, place=place) for place, series in enumerate(request.time_series)]
        refused = self._state.write(translate.project_from(request.name), writes, now_s=self._clock())
        if refused:
            raise PartlyWritten(refused, total=len(writes))
        return empty_pb2.Empty()

    def list_time_series(self, request: Protobuf) -> Protobuf:
        """Newest points first. Raises Unsupported for aggregation and order."""
        if request.HasField("aggregation") or request.HasField("secondary_aggregation") or request.order_by:
            raise Unsupported("aggregation and order_by of ListTimeSeries")
        if not request.interval.HasField("end_time"):
            raise InvalidArgument("interval.end_time is required")
        end_s = translate.seconds(request.interval.end_time)
        has_start = request.interval.HasField("start_time")
        start_s = translate.seconds(request.interval.start_time) if has_start else None
        if start_s is not None and start_s > end_s:
            raise InvalidArgument("interval.start_time is after interval.end_time")
        found = self._state.read(
            translate.project_from(request.name), parse(request.filter), start_s=start_s, end_s=end_s
        )
        headers = request.view == types.ListTimeSeriesRequest.TimeSeriesView.HEADERS
        return translate.series_page(found, size=request.page_size, token=request.page_token, headers=headers)

    def _answering(self, answer: Callable[[Protobuf], Protobuf]) -> Callable[[Protobuf, Any], Awaitable[Protobuf]]:
        async def call(request: Protobuf, context: Any) -> Protobuf:
            if self.refusal and answer == self.create_time_series:
                await context.abort(*self.refusal)
            try:
                return answer(request)
            except PartlyWritten as error:
                status = rpc_status.to_status(translate.status_to(error))
                await context.abort(status.code, status.details, status.trailing_metadata)
            except Refusal as error:
                await context.abort(grpc.StatusCode[error.code], str(error))

        return call

"""The service google.monitoring.v3.MetricService."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.cloud.monitoring_v3 import types
from grpc_status import rpc_status

from lowtide.local.errors import InvalidArgument, PartlyWritten, Refusal, Unsupported
from lowtide.local.monitoring import translate
from lowtide.local.monitoring.filters import parse
from lowtide.local.monitoring.state import MonitoringState
from lowtide.local.wire import Context, Protobuf, abort, unary

SAMPLE_S = 1.0
"""How often Pub/Sub's own metric gets a point. The real one: each 60 s, readable up to 120 s later."""

Undelivered = Callable[[], Mapping[str, int]]
"""Full name of a subscription → messages that nobody has acknowledged. Called on the server's thread."""


class MetricService:
    """Answers requests from its state, one at a time, on the server's thread. `clock`: seconds since 1970."""

    def __init__(self, *, undelivered: Undelivered = dict, clock: Callable[[], float] = time.time) -> None:
        self._state = MonitoringState()
        self._undelivered = undelivered
        self._clock = clock
        self._sampled_s = float("-inf")
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        """Every write is refused with it while it is set, as by a service in trouble. For any thread."""

    def tick(self) -> None:
        """Sample Pub/Sub's own metric when it is time."""
        now_s = self._clock()
        if not 0 <= now_s - self._sampled_s < SAMPLE_S:  # below 0: the clock was set back
            self._sampled_s = now_s
            self._state.sample(self._undelivered(), now_s=now_s)

    def handlers(self) -> Sequence[Any]:
        """The generic gRPC handler. What is not in it answers UNIMPLEMENTED."""
        answers: dict[str, tuple[Callable[[Protobuf], Protobuf | None], Any]] = {
            "CreateMetricDescriptor": (self.create_descriptor, types.CreateMetricDescriptorRequest),
            "GetMetricDescriptor": (self.get_descriptor, types.GetMetricDescriptorRequest),
            "ListMetricDescriptors": (self.list_descriptors, types.ListMetricDescriptorsRequest),
            "DeleteMetricDescriptor": (self.delete_descriptor, types.DeleteMetricDescriptorRequest),
            "CreateTimeSeries": (self.create_time_series, types.CreateTimeSeriesRequest),
            "ListTimeSeries": (self.list_time_series, types.ListTimeSeriesRequest),
        }
        handlers = {name: unary(self._answering(answer), request) for name, (answer, request) in answers.items()}
        return (grpc.method_handlers_generic_handler("google.monitoring.v3.MetricService", handlers),)

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

    def delete_descriptor(self, request: Protobuf) -> None:
        """With its points."""
        self._state.delete_descriptor(*translate.metric_from(request.name))

    def create_time_series(self, request: Protobuf) -> None:
        """Raises PartlyWritten when some are refused; the others are written."""
        writes = [translate.write_from(series, place=place) for place, series in enumerate(request.time_series)]
        refused = self._state.write(translate.project_from(request.name), writes, now_s=self._clock())
        if refused:
            raise PartlyWritten(refused, total=len(writes))

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

    def _answering(
        self, answer: Callable[[Protobuf], Protobuf | None]
    ) -> Callable[[Protobuf, Context], Awaitable[Protobuf]]:
        async def call(request: Protobuf, context: Context) -> Protobuf:
            if self.refusal and answer == self.create_time_series:
                await context.abort(*self.refusal)
            try:
                return answer(request)
            except PartlyWritten as error:
                status = rpc_status.to_status(translate.status_to(error))
                await context.abort(status.code, status.details, status.trailing_metadata)
            except Refusal as error:
                await abort(context, error)

        return call

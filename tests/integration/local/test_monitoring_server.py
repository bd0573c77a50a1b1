"""The local Cloud Monitoring, by the client that production uses."""

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.api import metric_pb2
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound, ServiceUnavailable
from google.cloud import monitoring_v3
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.config import load_settings
from lowtide.config.metrics import FLEET, GPU_SECONDS_OUTSTANDING, PUBSUB_UNDELIVERED
from lowtide.local.grpc_server import ServerFailed
from lowtide.local.monitoring.server import MonitoringServer
from tests.clock import Clock

NAME = "projects/p"
TYPE = GPU_SECONDS_OUTSTANDING.type
[SIGNAL] = policy_of(load_settings()).signals
"""What the instance group reads."""


@pytest.fixture
def clock() -> Clock:
    return Clock(float(int(time.time())))


@pytest.fixture
def server(clock: Clock) -> Iterator[MonitoringServer]:
    with MonitoringServer(clock=clock, undelivered=lambda: {"projects/p/subscriptions/s": 3}) as server:
        yield server


@pytest.fixture
def client(server: MonitoringServer) -> Iterator[monitoring_v3.MetricServiceClient]:
    transport = MetricServiceGrpcTransport(channel=grpc.insecure_channel(server.address))
    with monitoring_v3.MetricServiceClient(transport=transport) as client:
        yield client


def series(value: float, *, at: float, **labels: str) -> monitoring_v3.TimeSeries:
    return monitoring_v3.TimeSeries(
        metric={"type": TYPE, "labels": {FLEET: "default", **labels}},
        resource={"type": "global", "labels": {"project_id": "p"}},
        points=[{"interval": {"end_time": {"seconds": int(at)}}, "value": {"double_value": value}}],
    )


def write(client: Any, *written: monitoring_v3.TimeSeries) -> None:
    client.create_time_series(name=NAME, time_series=list(written), timeout=10)


def read(client: Any, query: str, *, end: float, back_s: int = 3600, **options: Any) -> list[monitoring_v3.TimeSeries]:
    interval = {"end_time": {"seconds": int(end)}, "start_time": {"seconds": int(end) - back_s}}
    return list(client.list_time_series(request={"name": NAME, "filter": query, "interval": interval, **options}))


def test_what_is_written_each_15_s_is_what_the_instance_groups_filter_selects(client: Any, clock: Clock) -> None:
    for step in range(5):
        write(client, series(step / 2, at=clock.now_s))
        clock.now_s += 15
    [found] = read(client, SIGNAL.query, end=clock.now_s)

    assert [point.value.double_value for point in found.points] == [2.0, 1.5, 1.0, 0.5, 0.0]
    assert found.metric_kind == metric_pb2.MetricDescriptor.MetricKind.GAUGE
    times = [point.interval.end_time.timestamp() for point in found.points]
    assert {newer - older for newer, older in pairwise(times)} == {15.0}


def test_one_series_of_a_fleet_does_not_hide_or_take_in_another(client: Any, clock: Clock) -> None:
    other = series(9, at=clock.now_s)
    other.metric.labels[FLEET] = "another"
    write(client, series(1, at=clock.now_s), other)

    [found] = read(client, SIGNAL.query, end=clock.now_s)
    assert found.metric.labels[FLEET] == "default"


def test_pages_hold_points_and_are_put_together_by_the_client(client: Any, clock: Clock) -> None:
    for step in range(5):
        write(client, series(step, at=clock.now_s), series(10 + step, at=clock.now_s, fleet="b"))
        clock.now_s += 5
    found = read(client, f'metric.type = "{TYPE}"', end=clock.now_s, page_size=3)

    assert sum(len(one.points) for one in found) == 10
    headers = read(client, f'metric.type = "{TYPE}"', end=clock.now_s, view=1)
    assert [len(one.points) for one in headers] == [0, 0]


def test_a_refusal_tells_which_series_and_why_and_the_others_are_written(client: Any, clock: Clock) -> None:
    write(client, series(1, at=clock.now_s))
    with pytest.raises(
        InvalidArgument, match=r"could not be written: timeSeries\[0\]: Points must be written in order"
    ):
        write(client, series(2, at=clock.now_s), series(3, at=clock.now_s, fleet="b"))

    assert sorted(len(one.points) for one in read(client, f'metric.type = "{TYPE}"', end=clock.now_s)) == [1, 1]


def test_a_refusal_carries_the_count_of_what_was_written(client: Any, clock: Clock) -> None:
    write(client, series(1, at=clock.now_s))
    with pytest.raises(InvalidArgument) as caught:
        write(client, series(2, at=clock.now_s), series(3, at=clock.now_s, fleet="b"))

    summary = monitoring_v3.types.CreateTimeSeriesSummary.pb()()
    assert caught.value.details[0].Unpack(summary)
    assert (summary.total_point_count, summary.success_point_count) == (2, 1)


@pytest.mark.parametrize(
    ("offset_s", "said"),
    [(2, "more frequently"), (-1, "written in order"), (301, "in the future"), (-25 * 3600 - 1, "in the past")],
)
def test_a_point_at_a_wrong_time_is_refused(client: Any, clock: Clock, offset_s: int, said: str) -> None:
    write(client, series(1, at=clock.now_s))
    with pytest.raises(InvalidArgument, match=said):
        write(client, series(2, at=clock.now_s + offset_s))
    [found] = read(client, SIGNAL.query, end=clock.now_s + 400)
    assert len(found.points) == 1


def test_a_request_that_is_wrong_as_a_whole_writes_nothing(client: Any, clock: Clock) -> None:
    with pytest.raises(InvalidArgument, match=r"missing field timeSeries\."):
        write(client)
    with pytest.raises(InvalidArgument, match="at most 200"):
        write(client, *(series(1, at=clock.now_s, number=str(number)) for number in range(201)))
    assert read(client, f'metric.type = "{TYPE}"', end=clock.now_s) == []
    write(client, *(series(1, at=clock.now_s, number=str(number)) for number in range(200)))


def test_a_metric_is_described_once_and_read_back(client: Any, clock: Clock) -> None:
    wanted = metric_pb2.MetricDescriptor(
        type=TYPE, metric_kind="GAUGE", value_type="DOUBLE", unit="s", description="work", labels=[{"key": FLEET}]
    )
    assert client.create_metric_descriptor(name=NAME, metric_descriptor=wanted).unit == "s"
    name = f"{NAME}/metricDescriptors/{TYPE}"
    assert client.get_metric_descriptor(name=name).description == "work"
    assert {one.type for one in client.list_metric_descriptors(name=NAME)} == {TYPE, PUBSUB_UNDELIVERED}
    with pytest.raises(InvalidArgument, match="Unrecognized metric labels: x"):
        write(client, series(1, at=clock.now_s, x="1"))
    client.delete_metric_descriptor(name=name)
    with pytest.raises(NotFound):
        client.get_metric_descriptor(name=name)


def test_pubsubs_own_metric_is_read_in_the_same_way(client: Any, clock: Clock) -> None:
    query = f'metric.type = "{PUBSUB_UNDELIVERED}" AND resource.labels.subscription_id = "s"'
    [found] = read(client, query, end=clock.now_s)
    assert found.points[0].value.int64_value == 3
    assert found.resource.type == "pubsub_subscription"


def test_what_this_server_cannot_do_it_says(client: Any, clock: Clock) -> None:
    for options in ({"order_by": "x"}, {"aggregation": {"alignment_period": {"seconds": 60}}}):
        with pytest.raises(GoogleAPICallError, match="aggregation and order_by"):
            read(client, SIGNAL.query, end=clock.now_s, **options)
    with pytest.raises(InvalidArgument, match="expected <selector>"):
        read(client, "metric.type = starts_with('x')", end=clock.now_s)


def test_a_list_that_makes_no_sense_is_refused(client: Any, clock: Clock) -> None:
    for options, said in (
        ({"page_size": -1}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"back_s": -9}, "after"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            read(client, SIGNAL.query, end=clock.now_s, **options)


def test_a_service_in_trouble_refuses_writes_and_comes_back(
    client: Any, server: MonitoringServer, clock: Clock
) -> None:
    server.refuse(grpc.StatusCode.UNAVAILABLE, "try again")
    with pytest.raises(ServiceUnavailable, match="try again"):
        client.create_time_series(name=NAME, time_series=[series(1, at=clock.now_s)], retry=None, timeout=5)
    assert read(client, SIGNAL.query, end=clock.now_s) == []
    server.accept()
    write(client, series(1, at=clock.now_s))


def test_a_port_that_is_taken_is_an_error_that_names_it(server: MonitoringServer) -> None:
    with pytest.raises(ServerFailed, match=server.address):
        MonitoringServer(port=int(server.address.rpartition(":")[2])).start()

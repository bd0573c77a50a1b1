"""From a real Redis to a real gRPC server of Cloud Monitoring, at the moments when a signal is hard to get right."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import metric_pb2
from google.api_core.exceptions import InternalServerError, PermissionDenied
from redis import Redis

from lowtide.autoscaling.export.exporter import EVERY_S, Exporter
from lowtide.autoscaling.export.monitoring import LOOK_BACK_S, Monitoring, connect_client
from lowtide.autoscaling.export.samples import Sample
from lowtide.autoscaling.policy.decide import GroupState, SignalPoint, decide
from lowtide.autoscaling.policy.from_settings import own_signal, policy_of
from lowtide.config import load_settings
from lowtide.config.metrics import (
    BRIDGES,
    FLOWER_WORKERS_ONLINE,
    GPU_SECONDS_OUTSTANDING,
    METRICS,
    OLDEST_WAITING,
    PUBSUB_REQUESTS,
    REQUESTS_AT_RISK,
    SOURCE_AGE,
    THROUGHPUT,
    WORKERS,
    WORKERS_SUSPECT,
    Metric,
)
from lowtide.local.monitoring.server import MonitoringServer
from lowtide.local.process import free_port
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import Register
from tests.clock import Clock
from tests.ports import steady_port
from tests.waiting import until

KEYS = Keys("fleet:")
PROJECT = "exporting"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/lowtide-requests"


class World:
    """A Redis, a Cloud Monitoring with Pub/Sub's count in it, and exporters between."""

    def __init__(self, folder: Path) -> None:
        self.wall, self.monotonic = Clock(1_780_000_000.0), Clock(100.0)
        self.undelivered: dict[str, int] = {SUBSCRIPTION: 0}
        self.monitoring = MonitoringServer(clock=self.wall, undelivered=lambda: self.undelivered)
        self.monitoring.start()
        self.port = steady_port()
        self.server = EmbeddedRedis(folder, port=self.port)
        self.server.start()
        self.redis = Redis(port=self.port)
        self.clients: list[Monitoring] = []
        self.connections: list[Redis] = []
        self.google = connect_client(self.monitoring.address)
        self.settings = load_settings(
            redis_url=f"redis://127.0.0.1:{self.port}/0",
            prefix=KEYS.prefix,
            project=PROJECT,
            monitoring_host=self.monitoring.address,
            fleet_work_s=1.0,
            fleet_messages=0,
        )
        self.exporter = self.make()

    def make(self, *, client: Any = None, wall: Callable[[], float] | None = None) -> Exporter:
        monitoring = Monitoring(self.settings, client=client, clock=self.wall)
        self.clients.append(monitoring)
        redis = Redis(port=self.port, retry=None)
        self.connections.append(redis)
        return Exporter(self.settings, redis, monitoring, clock=wall or self.wall, monotonic=self.monotonic)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.google.transport.close()
        self.redis.close()
        self.server.stop()
        self.monitoring.stop()

    def passes(self, seconds: float = EVERY_S) -> None:
        self.wall.pass_(seconds)
        self.monotonic.pass_(seconds)

    def turn(self, *exporters: Exporter) -> None:
        for exporter in exporters or (self.exporter,):
            exporter.turn()
        self.passes()

    def push(self, requests: int, queue: str = "lowtide.digits") -> None:
        properties = {"delivery_tag": str(uuid.uuid4())}
        message = {"headers": {"lowtide-n": requests}, "properties": properties}
        self.redis.lpush(KEYS.queue(queue), json.dumps(message))

    def counts(self, undelivered: int) -> None:
        """From now on Pub/Sub's metric says so."""
        self.undelivered[SUBSCRIPTION] = undelivered
        self.passes(1.0)
        client = Monitoring(self.settings, clock=self.wall)
        until(lambda: client.undelivered().messages == undelivered, what="a sample of Pub/Sub's metric")
        client.close()

    def points(self) -> list[tuple[float, float]]:
        """What the instance group reads, newest first."""
        client = Monitoring(self.settings, clock=self.wall)
        try:
            found = client.series(own_signal(self.settings).query, back_s=3600, ahead_s=3600)
        finally:
            client.close()
        assert len(found) <= 1, "one series"
        return [(point.at, point.value) for points in found for point in reversed(points)]

    def listed(self, query: str) -> list[Any]:
        """The series themselves."""
        now_s = int(self.wall.now_s)
        interval = {"start_time": {"seconds": now_s - 3600}, "end_time": {"seconds": now_s + 3600}}
        request = {"name": f"projects/{PROJECT}", "filter": query, "interval": interval}
        return list(self.google.list_time_series(request=request, timeout=10))

    @property
    def signal(self) -> list[float]:
        return [value for _, value in reversed(self.points())]

    def latest(self, metric: Metric, exporter: Exporter | None = None, **labels: str) -> float | None:
        samples: list[Sample] = (exporter or self.exporter).latest.samples
        found = [s.value for s in samples if s.metric is metric and dict(s.labels) == labels]
        return found[0] if found else None


class Refusing:
    """A client of Cloud Monitoring that may not write from a moment on."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_time_series(self, **request: Any) -> None:
        if self.error:
            raise self.error
        self._client.create_time_series(**request)


class Undescribed:
    """A client of Cloud Monitoring that has no luck with one descriptor."""

    def __init__(self, client: Any, metric: Metric) -> None:
        self._client = client
        self._metric = metric

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create_metric_descriptor(self, **request: Any) -> None:
        if request["metric_descriptor"].type == self._metric.type:
            raise InternalServerError("Internal error encountered. Please retry.")
        self._client.create_metric_descriptor(**request)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "redis")
    yield world
    world.close()


def test_an_idle_fleet_writes_zeros_that_the_instance_group_reads(world: World) -> None:
    for _ in range(4):
        world.turn()

    points = world.points()
    assert [value for _, value in points] == [0.0] * 4
    assert {newer[0] - older[0] for newer, older in pairwise(points)} == {EVERY_S}
    series = [[SignalPoint(at=at, value=value) for at, value in reversed(points)]]
    decision = decide(
        policy_of(world.settings),
        histories={GPU_SECONDS_OUTSTANDING.type: series},
        group=GroupState(),
        now=world.wall.now_s,
    )
    assert decision.size == 0
    assert "is missing" not in decision.reason


def test_whatever_happens_what_is_written_is_what_an_instance_group_wants(world: World) -> None:
    """Page "Scale based on Monitoring metrics": a resource type that is no machine's, a point at least every 60 s,
    nothing negative; and one series, for several would be added up.
    """
    other = world.make()

    def turns(count: int, *exporters: Exporter) -> None:
        for _ in range(count):
            world.turn(*exporters)

    turns(2, world.exporter, other)  # nothing waits
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.push(500)
    turns(2, world.exporter, other)
    world.server.stop()
    turns(2, world.exporter, other)  # Redis is away
    world.server.start()
    world.push(100)
    turns(1, world.exporter, other)
    world.monitoring.refuse(grpc.StatusCode.UNAVAILABLE, "try again")
    turns(2, world.exporter, other)
    world.monitoring.accept()
    turns(1, world.exporter, other)
    world.redis.flushall()
    turns(2, world.exporter, other)  # whoever leads now
    world.exporter.close()
    other.close()
    turns(2, other)  # the other one alone

    [series] = world.listed(own_signal(world.settings).query)
    assert (series.metric.type, dict(series.metric.labels)) == (GPU_SECONDS_OUTSTANDING.type, {"fleet": "default"})
    assert (series.resource.type, dict(series.resource.labels)) == ("global", {"project_id": PROJECT})
    points = world.points()
    assert len(points) == 12, "one of each of 14 turns but the two that were refused"
    assert all(newer[0] - older[0] <= 60 for newer, older in pairwise(points))
    assert [value for _, value in reversed(points)] == [0, 0, 5, 5, 5, 5, 6, 6, 0, 0, 0, 0]


def test_every_metric_is_described_with_its_unit(world: World) -> None:
    world.turn()
    found = {one.type: one for one in world.google.list_metric_descriptors(name=f"projects/{PROJECT}")}
    for metric in METRICS:
        described = found[metric.type]
        assert (described.unit, described.description) == (metric.unit, metric.description)
        assert [label.key for label in described.labels] == ["fleet", *metric.labels]


def test_work_only_in_pubsub(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.counts(3000)
    world.turn()
    assert world.signal == [pytest.approx(30.0)]


def test_work_only_from_python_callers(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.push(200)
    world.turn()
    assert world.signal == [pytest.approx(2.0)]


def test_the_same_work_in_pubsub_and_in_redis_counts_once(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.counts(1000)
    status = {"leased": 256, "oldest_at": None, "at_risk": 0}
    Heartbeat(world.redis, KEYS, kind="bridge", name="b", status=lambda: status).beat()
    world.push(256, "lowtide.digits.topic")
    world.turn()
    assert world.signal == [pytest.approx(10.0)]


def test_everything_at_a_dead_worker_and_no_worker_alive(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    message = json.dumps({"headers": {"lowtide-n": 256}, "properties": {}})
    world.redis.zadd(KEYS.workers, {"0a": 1.0})
    for tag in range(4):
        world.redis.hset(KEYS.held("0a"), str(tag), f"{KEYS.queue('lowtide.digits.topic')}\n\n{message}")
    world.turn()
    assert world.signal == [pytest.approx(10.24)]


def test_a_suspect_worker_is_told_and_costs_a_machine_more_while_there_is_work(world: World) -> None:
    for name, status in (("well", {"models": ["digits"]}), ("sick", {"suspect": "it fails what others answer"})):
        Heartbeat(world.redis, KEYS, kind="worker", name=name, status=partial(dict, status)).beat()
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.turn()
    world.push(500)
    world.turn()
    assert world.signal == [0.0, pytest.approx(5.0 + 1.0)], "LOWTIDE_FLEET_WORK_S is 1"
    assert (world.latest(WORKERS), world.latest(WORKERS_SUSPECT)) == (1, 1)


def test_redis_down_holds_the_signal_and_says_how_old_it_is(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.push(500)
    world.turn()
    world.server.stop()
    for _ in range(5):
        world.turn()

    assert world.signal == [pytest.approx(5.0)] * 6
    assert world.latest(SOURCE_AGE, source="redis") == 5 * EVERY_S
    assert not world.exporter.health().ok


def test_redis_down_holds_the_throughput_too(world: World) -> None:
    done = {"ok": 0}
    heartbeat = Heartbeat(world.redis, KEYS, kind="worker", name="w", status=lambda: {"done": done})
    for ok in (0, 300):
        done["ok"] = ok
        heartbeat.beat()
        world.turn()
        time.sleep(0.01)  # the rate is by Redis' own clock
    seen = world.latest(THROUGHPUT)
    world.server.stop()
    world.turn()

    assert seen is not None
    assert seen > 0
    assert world.latest(THROUGHPUT) == seen


def test_redis_back_and_empty_is_believed_and_the_rates_survive(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.push(500)
    world.turn()
    world.redis.flushall()
    world.counts(100)
    world.turn()

    assert world.signal == [pytest.approx(5.0), pytest.approx(1.0)]
    assert world.exporter.health().ok


def test_before_redis_was_ever_read_nothing_is_said_of_the_fleet(world: World) -> None:
    world.server.stop()
    world.turn()
    assert world.latest(GPU_SECONDS_OUTSTANDING) is None
    assert world.latest(SOURCE_AGE, source="redis") is not None


def test_an_unreadable_pubsub_metric_is_held_and_never_zero(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.counts(300)
    world.turn()
    del world.undelivered[SUBSCRIPTION]
    world.passes(LOOK_BACK_S)
    world.turn()

    assert world.signal == [pytest.approx(3.0)] * 2
    assert world.latest(PUBSUB_REQUESTS) == 300
    assert world.latest(SOURCE_AGE, source="pubsub") == EVERY_S + LOOK_BACK_S


def test_the_age_of_pubsubs_count_is_that_of_its_point_and_not_of_the_reading(world: World) -> None:
    world.counts(300)
    world.turn()
    assert world.latest(SOURCE_AGE, source="pubsub") == 0
    del world.undelivered[SUBSCRIPTION]
    world.passes(90.0)
    world.turn()

    assert world.latest(PUBSUB_REQUESTS) == 300
    assert world.latest(SOURCE_AGE, source="pubsub") == EVERY_S + 90.0
    assert world.exporter.health().ok


def test_a_pubsub_metric_that_was_never_read_is_not_told_as_zero(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.undelivered.clear()
    world.passes(LOOK_BACK_S + 1)
    world.turn()
    assert world.latest(PUBSUB_REQUESTS) is None
    assert [world.latest(metric) for metric in (OLDEST_WAITING, REQUESTS_AT_RISK)] == [None, None]
    assert world.signal == [], "that nothing waits would be a lie"
    for _ in range(4):
        world.turn()
    reason = world.exporter.health().reason
    assert "no bridge lives and Pub/Sub's metric was never read" in reason
    assert "LOWTIDE_SUBSCRIPTION= (nothing after it)" in reason
    [told] = [line for line in caplog.messages if "there is no signal to write" in line]
    assert reason.partition(": ")[2] in told
    assert world.exporter.health().details["writes"]

    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.push(200)
    world.turn()  # so much there is at least
    world.redis.delete(KEYS.queue("lowtide.digits"))
    Heartbeat(world.redis, KEYS, kind="bridge", name="b", status=lambda: {"leased": 0}).beat()
    world.turn()
    assert world.signal == [pytest.approx(2.0), 0.0]
    assert world.exporter.health().ok


def test_a_fleet_without_a_subscription_knows_that_nothing_waits_there(world: World) -> None:
    world.settings = world.settings.model_copy(update={"subscription": ()})
    world.undelivered.clear()
    world.passes(LOOK_BACK_S + 1)
    exporter = world.make()
    world.turn(exporter)
    world.push(100)
    world.turn(exporter)

    assert world.signal == [0.0, pytest.approx(0.5)]
    assert (world.latest(PUBSUB_REQUESTS, exporter), world.latest(SOURCE_AGE, exporter, source="pubsub")) == (0, 0.0)


@pytest.mark.parametrize(
    ("of", "garbage"),
    [
        *(("rates", text) for text in ("oops", "nan", "inf", "-5")),
        *(("worker", text) for text in ("oops", "7", "[]", '{"done": 5}', '{"started_at": {}}')),
        *(("bridge", text) for text in ("null", '{"leased": null}', '{"at_risk": "x"}', '{"oldest_at": []}')),
        *(("held", entry) for entry in (b"\xff\xfe\n{}", b"no list")),
    ],
)
def test_what_somebody_else_wrote_into_redis_is_held_off_and_told(world: World, of: str, garbage: str) -> None:
    world.push(100)
    world.turn()
    if of == "rates":
        world.redis.hset(KEYS.rates, "digits", garbage)
    elif of == "held":
        world.redis.zadd(KEYS.workers, {"0a": 1.0})
        world.redis.hset(KEYS.held("0a"), "tag", garbage)
    else:
        register = Register.of(KEYS, "worker" if of == "worker" else "bridge")
        world.redis.zadd(register.beats, {"x": 9e9})
        world.redis.hset(register.statuses, "x", garbage)
    for _ in range(5):
        world.turn()

    assert world.signal[0] == pytest.approx(0.5)
    assert world.signal == [world.signal[0]] * 6
    if of != "held":
        assert "Redis was not read for" in world.exporter.health().reason


def test_a_redis_that_was_never_read_is_named_as_the_cause(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "oops")
    for _ in range(5):
        world.turn()

    assert "Redis was never read: what it holds was not written by Lowtide" in world.exporter.health().reason


def test_flower_down_is_told_by_its_age_and_changes_nothing_else(world: World) -> None:
    world.settings = world.settings.model_copy(update={"flower_url": f"http://127.0.0.1:{free_port()}"})
    exporter = world.make()
    world.push(100)
    world.turn(exporter)
    world.turn(exporter)

    assert world.signal == [pytest.approx(0.5)] * 2
    assert world.latest(SOURCE_AGE, exporter, source="flower") == EVERY_S
    assert world.latest(FLOWER_WORKERS_ONLINE, exporter) is None
    assert exporter.health().ok


def test_writes_that_are_refused_are_counted_and_the_next_ones_go_through(world: World) -> None:
    world.turn()
    world.monitoring.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded")
    for _ in range(5):
        world.turn()
    failed = world.exporter.latest.writes_failed
    assert failed >= 5 * 10
    assert "the signal was not written" in world.exporter.health().reason
    world.monitoring.accept()
    world.turn()  # left to another, had there been one
    world.turn()

    assert world.signal == [0.0, 0.0]
    assert world.exporter.latest.writes_failed == failed
    assert world.exporter.health().ok


def test_of_a_write_that_is_refused_in_part_only_that_part_is_counted(world: World) -> None:
    world.turn()
    client = world.clients[0]
    for _ in range(5):
        client.write([Sample(metric=BRIDGES, value=1.0)], at_s=world.wall.now_s + 12)
        world.turn()  # sooner than that, so of all series this one is refused

    assert world.exporter.latest.writes_failed == 5
    assert world.signal == [0.0] * 6
    assert world.exporter.health().ok, "the fleet is fed"


def test_a_signal_that_alone_is_refused_is_an_alarm(world: World) -> None:
    world.turn()
    client = world.clients[0]
    for _ in range(5):  # another fleet of the same name
        client.write([Sample(metric=GPU_SECONDS_OUTSTANDING, value=1.0)], at_s=world.wall.now_s + 12)
        world.turn()

    assert world.exporter.latest.writes_failed == 5
    assert "the signal was not written for" in world.exporter.health().reason
    for _ in range(6):
        world.turn()
    assert world.exporter.health().ok
    assert world.signal == [0.0, *[1.0] * 5, *[0.0] * 5]


def test_of_two_exporters_one_writes_and_the_other_takes_over(world: World) -> None:
    other = world.make()
    for _ in range(3):
        world.turn(world.exporter, other)
    assert (len(world.signal), other.health().details["writes"]) == (3, False)
    assert other.latest.writes_failed == world.exporter.latest.writes_failed == 0

    world.exporter.close()
    world.turn(other)
    assert len(world.signal) == 4
    assert other.latest.writes_failed == 0


@pytest.mark.parametrize("it_notices", [True, False])
def test_a_leader_that_leads_again_does_not_take_the_points_of_the_one_between_for_a_rivals(
    world: World, it_notices: bool
) -> None:
    other = world.make()
    world.turn(world.exporter, other)
    world.redis.delete(KEYS.exporter)  # as when it stood still for half a minute
    world.turn(*((other, world.exporter) if it_notices else (other,)))
    other.close()
    world.turn()

    assert (len(world.signal), world.exporter.health().details["writes"]) == (3, True)
    assert world.exporter.health().ok


def test_a_leader_that_alone_cannot_reach_redis_leaves_the_signal_to_the_next(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.push(3000)
    other = world.make()
    world.turn(world.exporter, other)

    pool = world.connections[0].connection_pool
    pool.connection_kwargs["port"] = free_port()
    pool.disconnect()
    pool.reset()
    world.turn(world.exporter, other)
    assert world.latest(SOURCE_AGE, source="redis") > 0
    assert world.exporter.health().details["writes"], "nobody else writes yet"

    world.redis.delete(KEYS.exporter, KEYS.queue("lowtide.digits"))  # the lock lapses, the work is done
    for _ in range(4):
        other.turn()
        world.passes(EVERY_S / 2)
        world.exporter.turn()
        world.passes(EVERY_S / 2)
    assert (other.health().details["writes"], world.exporter.health().details["writes"]) == (True, False)
    assert world.signal[-3:] == [0.0] * 3


def test_a_metric_whose_descriptor_is_refused_keeps_no_other_from_being_written(world: World) -> None:
    kind = metric_pb2.MetricDescriptor(type=THROUGHPUT.type, metric_kind="GAUGE", value_type="INT64")
    world.google.create_metric_descriptor(name=f"projects/{PROJECT}", metric_descriptor=kind)
    for _ in range(3):
        world.turn()
    assert len(world.signal) == 3
    assert world.exporter.latest.writes_failed > 0
    assert world.exporter.health().ok


def test_an_error_at_one_descriptor_keeps_nothing_from_being_written(world: World) -> None:
    exporter = world.make(client=Undescribed(connect_client(world.monitoring.address), THROUGHPUT))
    for _ in range(3):
        world.turn(exporter)
    assert len(world.signal) == 3
    assert exporter.health().ok


def test_a_leader_that_takes_over_writes_after_what_is_there_though_its_clock_is_behind(world: World) -> None:
    world.turn()
    world.exporter.close()
    world.wall.now_s -= 60
    other = world.make()
    world.turn(other)

    assert other.latest.writes_failed == 0
    assert len(world.signal) == 2


@pytest.mark.parametrize("step_s", [-40.0, 200.0])
def test_a_clock_that_steps_leaves_the_points_in_order(world: World, step_s: float) -> None:
    world.turn()
    world.wall.now_s += step_s
    for _ in range(4):
        world.turn()

    times = [at for at, _ in reversed(world.points())]
    assert len(times) == 5
    assert all(later - earlier >= 5 for earlier, later in pairwise(times))
    assert world.exporter.latest.writes_failed == 0


@pytest.mark.parametrize("why", ["refused", "clock"])
def test_a_leader_that_cannot_write_lets_another(world: World, why: str) -> None:
    client, ahead = Refusing(connect_client(world.monitoring.address)), []
    leader = world.make(client=client, wall=lambda: ahead[0] if ahead else world.wall())
    other = world.make()
    world.turn(leader, other)
    if why == "refused":
        client.error = PermissionDenied("for this one only")
    else:
        ahead.append(world.wall.now_s + 600)
    for _ in range(7):
        world.turn(leader, other)
        if not leader.health().ok:
            assert "the signal was not written" in leader.health().reason

    assert (leader.health().details["writes"], other.health().details["writes"]) == (False, True)
    assert other.health().ok
    assert len(world.signal) >= 3


def test_a_leader_that_cannot_write_and_is_alone_tries_on(world: World) -> None:
    world.turn()
    world.monitoring.refuse(grpc.StatusCode.UNAVAILABLE, "try again")
    for _ in range(12):
        world.turn()
    assert "the signal was not written for 195 s" in world.exporter.health().reason
    world.monitoring.accept()
    for _ in range(2):
        world.turn()
    assert len(world.signal) == 3
    assert world.exporter.health().ok


def test_two_fleets_that_write_one_series_are_told(world: World) -> None:
    world.settings = world.settings.model_copy(update={"prefix": "another:"})
    other = world.make()
    world.push(3000)
    for _ in range(3):
        world.exporter.turn()
        world.passes(EVERY_S / 2)
        other.turn()
        world.passes(EVERY_S / 2)

    assert all("needs a LOWTIDE_FLEET of its own" in one.health().reason for one in (world.exporter, other))
    for _ in range(6):
        world.turn()
    assert world.exporter.health().ok, "the other one is gone"


def test_an_exporter_that_starts_while_pubsubs_metric_is_unreadable_holds_what_was_written(world: World) -> None:
    world.redis.hset(KEYS.rates, "digits", "0.01")
    world.counts(3000)
    world.turn()
    del world.undelivered[SUBSCRIPTION]
    world.passes(LOOK_BACK_S)
    world.exporter.close()
    other = world.make()
    world.turn(other)
    assert world.latest(SOURCE_AGE, other, source="pubsub") == EVERY_S + LOOK_BACK_S
    world.turn(other)
    other.close()
    third = world.make()
    world.turn(third)

    assert world.signal == [pytest.approx(30.0)] * 4
    assert world.latest(PUBSUB_REQUESTS, third) == 3000
    assert world.latest(SOURCE_AGE, third, source="pubsub") == 3 * EVERY_S + LOOK_BACK_S


def test_an_emptied_redis_does_not_make_two_leaders(world: World) -> None:
    other = world.make()
    world.turn(world.exporter, other)
    world.redis.flushall()
    for _ in range(3):
        world.turn(world.exporter, other)
    assert len(world.signal) == 4
    assert [e.health().details["writes"] for e in (world.exporter, other)].count(True) == 1

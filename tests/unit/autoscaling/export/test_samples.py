"""Figures under their names."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lowtide.autoscaling.export.flower import FlowerFigures
from lowtide.autoscaling.export.flower_pace import FlowerReading, Pace
from lowtide.autoscaling.export.prometheus import Figures
from lowtide.autoscaling.export.samples import Done, flower_samples, own_samples, samples_of
from lowtide.autoscaling.signal.backlog import Backlog, State
from lowtide.autoscaling.signal.signal import outstanding
from lowtide.autoscaling.signal.snapshot import Snapshot
from lowtide.config.metrics import METRICS, OLDEST_WAITING, PUBSUB_REQUESTS, REQUESTS_AT_RISK

BACKLOG = Backlog(
    requests={("digits", state): number for number, state in enumerate(State, 1)}, from_topic={"digits": 2}
)


def status(started_s: int, **done: int) -> dict[str, Any]:
    return {"started_at": datetime.fromtimestamp(started_s, UTC).isoformat(timespec="seconds"), "done": done}


def snapshot(at: float = 100.0, **workers: Mapping[str, Any]) -> Snapshot:
    bridge = {"leased": 9, "oldest_at": 40.0, "at_risk": 1}
    return Snapshot(at=at, backlog=BACKLOG, workers=workers, bridge_statuses={"b": bridge}, rates_s={"digits": 0.5})


def figures(undelivered: int | None = 10) -> dict[tuple[str, ...], float]:
    seen = snapshot(one={"busy": True}, two={"busy": False}, three={"busy": False, "suspect": "why"})
    work = outstanding(undelivered=undelivered, backlog=BACKLOG, bridges=seen.bridges, rates_s=seen.rates_s)
    samples = samples_of(
        seen,
        work=work,
        done=Done(per_s=4.0, failed_per_s=1.0, ignored_per_s=0.25),
        undelivered=undelivered,
    )
    own = own_samples({"redis": 3.0}, writes_failed=2)
    pace = Pace(succeeded_per_s=7.0, failed_per_s=0.5, runtime_s=0.25)
    flower = flower_samples(FlowerReading(figures=FlowerFigures(workers_online=3, prefetch_s=0.1), pace=pace))
    return {(s.metric.name, *s.labels.values()): s.value for s in [*samples, *own, *flower]}


def test_every_metric_has_its_figure() -> None:
    assert figures() == {
        ("gpu_seconds_outstanding",): 7.0,  # 10 from the topic and 6 - 2 of callers, at 0.5 s
        ("requests_outstanding",): 14,
        ("pubsub_requests",): 10,
        ("redis_requests", "digits", "queued"): 1,
        ("redis_requests", "digits", "held"): 2,
        ("redis_requests", "digits", "left_behind"): 3,
        ("seconds_per_request", "digits"): 0.5,
        ("oldest_waiting",): 60.0,
        ("requests_at_risk",): 1,
        ("throughput",): 4.0,
        ("failures",): 1.0,
        ("events_ignored",): 0.25,
        ("workers",): 2,
        ("workers_busy",): 1,
        ("workers_suspect",): 1,
        ("bridges",): 1,
        ("source_age", "redis"): 3.0,
        ("writes_failed",): 2,
        ("flower_workers_online",): 3,
        ("flower_runtime",): 0.25,
        ("flower_prefetch_time",): 0.1,
        ("flower_succeeded",): 7.0,
        ("flower_failed",): 0.5,
    }
    assert {name for name, *_ in figures()} == {metric.name for metric in METRICS}


@pytest.mark.parametrize(
    ("bridges", "redis", "oldest_s"), [(None, None, 0.0), (None, 70.0, 30.0), (40.0, 70.0, 60.0), (40.0, 30.0, 70.0)]
)
def test_the_oldest_request_is_a_bridges_or_in_redis(
    bridges: float | None, redis: float | None, oldest_s: float
) -> None:
    seen = replace(
        snapshot(),
        backlog=Backlog(oldest_at=redis),
        bridge_statuses={"b": {"leased": 1, "oldest_at": bridges, "at_risk": 0}},
    )
    work = outstanding(undelivered=0, backlog=seen.backlog, bridges=seen.bridges, rates_s={})
    [told] = [
        sample.value
        for sample in samples_of(seen, work=work, done=None, undelivered=0)
        if sample.metric is OLDEST_WAITING
    ]
    assert told == oldest_s


def test_throughput_is_not_told_after_a_single_look() -> None:
    seen = snapshot()
    work = outstanding(undelivered=0, backlog=BACKLOG, bridges=seen.bridges, rates_s={})
    told = {s.metric.name for s in samples_of(seen, work=work, done=None, undelivered=0)}
    assert told.isdisjoint({"throughput", "failures"})


def test_a_count_of_pubsub_that_is_not_known_is_not_told() -> None:
    assert (PUBSUB_REQUESTS.name,) not in figures(undelivered=None)


def test_what_flower_has_not_counted_yet_is_not_told() -> None:
    figures = FlowerFigures(workers_online=3)
    idle = Pace(succeeded_per_s=0.0, failed_per_s=0.0, runtime_s=None)
    names = [
        {sample.metric.name for sample in flower_samples(FlowerReading(figures=figures, pace=pace))}
        for pace in (None, idle)
    ]
    assert names[0] == {"flower_workers_online", "flower_prefetch_time"}
    assert names[1] == {*names[0], "flower_succeeded", "flower_failed"}


def test_throughput_is_what_workers_did_between_two_looks() -> None:
    before = snapshot(100.0, old=status(10, ok=50), gone=status(10, ok=999))
    after = snapshot(110.0, old=status(10, ok=80, failed=10), new=status(103, ok=20))
    assert Done.between(before, after) == Done(per_s=6.0, failed_per_s=1.0)


def test_what_a_worker_did_before_redis_forgot_it_is_no_throughput_of_now() -> None:
    assert Done.between(snapshot(100.0), snapshot(110.0, back=status(10, ok=10**6))) == Done(
        per_s=0.0, failed_per_s=0.0
    )


def test_events_that_ask_for_nothing_are_what_bridges_ended_between_two_looks() -> None:
    before = replace(
        snapshot(100.0), bridge_statuses={"old": {"ignored": {"deleted": 5}}, "gone": {"ignored": {"a": 9}}}
    )
    statuses = {"old": {"ignored": {"deleted": 10, "folder": 5}}, "new": {"ignored": {"deleted": 50}}}
    assert Done.between(before, replace(snapshot(110.0), bridge_statuses=statuses)).ignored_per_s == 1.0


def test_what_waits_in_pubsub_while_no_bridge_lives_has_no_age_that_is_known() -> None:
    seen = replace(snapshot(), bridge_statuses={})
    for undelivered, told in ((3000, False), (0, True), (None, False)):
        work = outstanding(undelivered=undelivered, backlog=BACKLOG, bridges=seen.bridges, rates_s={})
        found = {s.metric for s in samples_of(seen, work=work, done=None, undelivered=undelivered)}
        assert ({OLDEST_WAITING, REQUESTS_AT_RISK} <= found) is told
        assert not told or not found.isdisjoint({OLDEST_WAITING, REQUESTS_AT_RISK})


def test_prometheus_sees_the_same_names_values_and_labels() -> None:
    registry = CollectorRegistry()
    registry.register(Figures("blue", lambda: list(own_samples({"redis": 3.0, "pubsub": 1.0}, writes_failed=2))))
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}

    assert families.keys() == {"lowtide_source_age", "lowtide_writes_failed"}
    ages = {s.labels["source"]: (s.value, s.labels["fleet"]) for s in families["lowtide_source_age"].samples}
    assert ages == {"redis": (3.0, "blue"), "pubsub": (1.0, "blue")}
    assert families["lowtide_source_age"].documentation

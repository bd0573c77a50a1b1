"""What is exported: the figures of a fleet at one moment, under the names of `lowtide.config.metrics`. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lowtide.autoscaling.export.flower_pace import FlowerReading
from lowtide.autoscaling.signal.signal import Work
from lowtide.autoscaling.signal.snapshot import Snapshot
from lowtide.config import metrics
from lowtide.config.metrics import MODEL, SOURCE, STATE, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value. `labels`: those of its metric, the fleet's apart."""

    metric: Metric
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Requests that ended, each second, and those of them that failed; and events that asked for nothing."""

    per_s: float
    failed_per_s: float
    ignored_per_s: float = 0.0

    @classmethod
    def between(cls, before: Snapshot, after: Snapshot) -> "Done":
        """By what each worker says that it has done since it began. One that vanished takes its last ones along; of one
        that is back, because Redis was emptied or away, what it did before is not known and not told.
        """
        ended: Counter[str] = Counter()
        for name, status in after.workers.items():
            known = before.workers.get(name)
            if known is not None or _began_s(status) >= before.at:
                ended += Counter(status.get("done", {})) - Counter((known or {}).get("done", {}))
        ignored: Counter[str] = Counter()
        for name, status in after.bridge_statuses.items():
            if (known := before.bridge_statuses.get(name)) is not None:
                ignored += Counter(status.get("ignored", {})) - Counter(known.get("ignored", {}))
        passed_s = after.at - before.at
        return cls(
            per_s=ended.total() / passed_s,
            failed_per_s=ended["failed"] / passed_s,
            ignored_per_s=ignored.total() / passed_s,
        )


def samples_of(snapshot: Snapshot, *, work: Work, done: Done | None, undelivered: int | None) -> Iterator[Sample]:
    """All figures but those of the exporter itself. Zeros included: an autoscaler takes what is missing for unknown.

    `undelivered` None: Pub/Sub's count is not known, and not told; if no bridge lives either, nor is it told that there
    is no work. `done` None: there was one look so far. How old requests are, and how many at risk, is not known while
    any may wait in Pub/Sub and no bridge lives.
    """
    plain: dict[Metric, float] = {
        metrics.WORKERS: len(snapshot.workers) - snapshot.suspects,
        metrics.WORKERS_SUSPECT: snapshot.suspects,
        metrics.WORKERS_BUSY: sum(_busy(status) for status in snapshot.workers.values()),
        metrics.BRIDGES: len(snapshot.bridge_statuses),
    }
    if work.requests or snapshot.bridge_statuses or undelivered is not None:
        plain |= {metrics.GPU_SECONDS_OUTSTANDING: work.signal_s, metrics.REQUESTS_OUTSTANDING: work.requests}
    if snapshot.bridge_statuses or undelivered == 0:  # else nobody has looked at what waits there
        plain |= {metrics.OLDEST_WAITING: snapshot.oldest_s or 0.0, metrics.REQUESTS_AT_RISK: snapshot.bridges.at_risk}
    if done is not None:
        plain |= {
            metrics.THROUGHPUT: done.per_s,
            metrics.FAILURES: done.failed_per_s,
            metrics.EVENTS_IGNORED: done.ignored_per_s,
        }
    if undelivered is not None:
        plain[metrics.PUBSUB_REQUESTS] = undelivered
    for metric, value in plain.items():
        yield Sample(metric=metric, value=value)
    for (model, state), count in snapshot.backlog.requests.items():
        yield Sample(metric=metrics.REDIS_REQUESTS, value=count, labels={MODEL: model, STATE: state.value})
    for model, rate_s in snapshot.rates_s.items():
        yield Sample(metric=metrics.SECONDS_PER_REQUEST, value=rate_s, labels={MODEL: model})


def flower_samples(reading: FlowerReading) -> Iterator[Sample]:
    """Flower's figures beside ours. What is counted has none before the second reading."""
    yield Sample(metric=metrics.FLOWER_WORKERS_ONLINE, value=reading.figures.workers_online)
    yield Sample(metric=metrics.FLOWER_PREFETCH_TIME, value=reading.figures.prefetch_s)
    if reading.pace:
        yield Sample(metric=metrics.FLOWER_SUCCEEDED, value=reading.pace.succeeded_per_s)
        yield Sample(metric=metrics.FLOWER_FAILED, value=reading.pace.failed_per_s)
        if reading.pace.runtime_s is not None:
            yield Sample(metric=metrics.FLOWER_RUNTIME, value=reading.pace.runtime_s)


def own_samples(ages_s: Mapping[str, float], *, writes_failed: int) -> Iterator[Sample]:
    """Of the exporter: how old what it read is, and what was refused."""
    for source, age_s in ages_s.items():
        yield Sample(metric=metrics.SOURCE_AGE, value=age_s, labels={SOURCE: source})
    yield Sample(metric=metrics.WRITES_FAILED, value=writes_failed)


def _began_s(status: Mapping[str, Any]) -> float:
    """Unix time, by the worker's clock; whole seconds, so to be sure the end of that one."""
    started_at = status.get("started_at")
    return datetime.fromisoformat(started_at).timestamp() + 1.0 if started_at else 0.0


def _busy(status: Mapping[str, Any]) -> bool:
    return bool(status.get("busy"))

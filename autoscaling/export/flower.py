"""What Flower's metrics say of tasks and workers. They are shown beside Redis' own figures, and size no fleet."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from lowtide.autoscaling.signal.last_value import SourceUnreadable
from lowtide.config.redact import redacted
from lowtide.tasks.redis.registry import NODE

CONNECT_S = 3.05
READ_S = 5.0
"""Between two pieces of the answer. Flower answers from memory, in one process that also takes in all events."""

# Flower 2.2's names (flower/events.py).
ONLINE = "flower_worker_online"
PREFETCH = "flower_task_prefetch_time_seconds"
EVENTS = "flower_events"
RUNTIME = "flower_task_runtime_seconds"

COUNTED = {
    ("flower_events_total", "task-succeeded"): "succeeded",
    ("flower_events_total", "task-failed"): "failed",
    ("flower_task_runtime_seconds_count", ""): "timed",
    ("flower_task_runtime_seconds_sum", ""): "run_s",
}
"""Name of a sample, and type of the event → the field of `FlowerTally` that it is added to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerTally:
    """Tasks of one worker since Flower heard of it first. `timed`: those whose run time is known; `run_s`: of all of
    these together.
    """

    succeeded: float = 0.0
    failed: float = 0.0
    timed: float = 0.0
    run_s: float = 0.0

    def since(self, before: "FlowerTally") -> "FlowerTally":
        """What came after `before`. A tally that fell began anew: all of it is new."""
        grown = {each.name: getattr(self, each.name) - getattr(before, each.name) for each in fields(self)}
        return self if any(change < 0 for change in grown.values()) else FlowerTally(**grown)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerFigures:
    """Flower's figures at one moment. `prefetch_s`: how long tasks waited in their worker before they ran, the mean of
    those that run; 0 when none does. `tallies`: by worker, as a worker that is gone takes its counters with it.
    """

    workers_online: int = 0
    prefetch_s: float = 0.0
    tallies: Mapping[str, FlowerTally] = field(default_factory=dict)


def read_flower(url: str, *, auth: str = "") -> FlowerFigures:
    """The figures now. `auth`: `user:password`, or empty. Raises SourceUnreadable, without the login in its message."""
    where = redacted(f"{url.rstrip('/')}/metrics")
    user, _, password = auth.partition(":")
    try:
        answer = requests.get(
            f"{url.rstrip('/')}/metrics",
            auth=(user, password) if auth else None,
            timeout=(CONNECT_S, READ_S),
            allow_redirects=False,  # it leads to a page that asks for a login
        )
    except requests.RequestException as error:
        raise SourceUnreadable(f"{where} does not answer: {redacted(str(error))}") from error
    if answer.status_code != requests.codes.ok:
        hint = (
            ": LOWTIDE_FLOWER_BASIC_AUTH is not its login" if answer.status_code == requests.codes.unauthorized else ""
        )
        raise SourceUnreadable(f"{where} answers {answer.status_code}{hint}")
    return parse(answer.content.decode(errors="replace"), where=where)


def parse(text: str, *, where: str) -> FlowerFigures:
    """From the text of `/metrics`. Raises SourceUnreadable when it isn't Flower's: that would read as all zeros."""
    try:
        families = {family.name: family.samples for family in text_string_to_metric_families(text)}
        if ONLINE in families:
            return _figures(families)
    except (ValueError, KeyError) as error:
        raise SourceUnreadable(f"{where} answers what are no metrics of Flower") from error
    raise SourceUnreadable(f"{where} answers without {ONLINE}: that is not Flower")


def _figures(heard: Mapping[str, Sequence[Sample]]) -> FlowerFigures:
    # Flower hears every Celery worker on the same Redis and prefix, also an application's own.
    families = {
        name: [sample for sample in heard.get(name, ()) if sample.labels["worker"].startswith(NODE)]
        for name in (ONLINE, PREFETCH, EVENTS, RUNTIME)
    }
    # Flower writes 0 when a task ends.
    waits_s = [sample.value for sample in families[PREFETCH] if sample.value > 0]
    return FlowerFigures(
        workers_online=sum(sample.value == 1 for sample in families[ONLINE]),
        prefetch_s=sum(waits_s) / len(waits_s) if waits_s else 0.0,
        tallies=_tallies([*families[EVENTS], *families[RUNTIME]]),
    )


def _tallies(samples: Iterable[Sample]) -> dict[str, FlowerTally]:
    """Over all names of tasks: `lowtide.infer`, `lowtide.infer_chunk`, and whatever else the fleet runs."""
    sums: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for sample in samples:
        if counted := COUNTED.get((sample.name, sample.labels.get("type", ""))):
            sums[sample.labels["worker"]][counted] += sample.value
    return {worker: FlowerTally(**counts) for worker, counts in sums.items()}

"""The signal: device seconds of work outstanding, and the requests behind it, each counted once. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lowtide.autoscaling.signal.backlog import Backlog
from lowtide.tasks.chunks.packing import GUESSED_RATE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """What Pub/Sub's metric said, `age_s` seconds ago: of several subscriptions, the oldest sample's age."""

    messages: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridges:
    """What all live bridges say of themselves. `leased`: messages of Pub/Sub that they have; `content_bytes`: inline
    content of those in Redis; `oldest_at`: Unix time at which the oldest of those was published; `ignored`: events that
    asked for nothing, by why; `refused`: subscriptions that Pub/Sub refuses a bridge, and why.
    """

    leased: int = 0
    content_bytes: int = 0
    oldest_at: float | None = None
    at_risk: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, statuses: Iterable[Mapping[str, Any]]) -> "Bridges":
        """From their statuses (`registry.live`). One of a release that said less counts for what it says."""
        leased, content_bytes, at_risk, oldest = 0, 0, 0, []
        ignored: Counter[str] = Counter()
        refused: dict[str, str] = {}
        for status in statuses:
            leased += status.get("leased", 0)
            content_bytes += status.get("content_bytes", 0)
            at_risk += status.get("at_risk", 0)
            oldest += [at for at in [status.get("oldest_at")] if at is not None]
            ignored.update(status.get("ignored", {}))
            refused.update(status.get("refused", {}))
        return cls(
            leased=leased,
            content_bytes=content_bytes,
            oldest_at=min(oldest, default=None),
            at_risk=at_risk,
            ignored=dict(sorted(ignored.items())),
            refused=refused,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is outstanding: `from_topic` requests that Pub/Sub counts, `from_callers` those that only Redis knows."""

    from_topic: int
    from_callers: int
    gpu_seconds: float
    suspects_s: float = 0.0
    """What the signal has on top for workers that are suspect: see `beside_suspects`."""

    @property
    def signal_s(self) -> float:
        """What the group is sized by."""
        return self.gpu_seconds + self.suspects_s

    @property
    def requests(self) -> int:
        """All that are outstanding."""
        return self.from_topic + self.from_callers


def outstanding(*, undelivered: int | None, backlog: Backlog, bridges: Bridges, rates_s: Mapping[str, float]) -> Work:
    """The work of a fleet. `undelivered`: what Pub/Sub's metric says, None when it is not known;
    `rates_s`: device seconds per request, by model.

    What a bridge put into Redis is undelivered until its result is published, also when that bridge is dead: the queue
    tells whose it is. The metric may be three minutes old: what the bridges have leased, or what Redis has, is then the
    better figure if it is the larger one. The sum would count twice what the metric has seen already.
    """
    from_topic = max(undelivered or 0, bridges.leased, sum(backlog.from_topic.values()))
    callers = {model: count - backlog.from_topic.get(model, 0) for model, count in backlog.by_model.items()}
    seconds = sum(count * rates_s.get(model, GUESSED_RATE_S) for model, count in callers.items())
    return Work(
        from_topic=from_topic,
        from_callers=sum(callers.values()),
        gpu_seconds=seconds + from_topic * mean_rate_s(backlog.from_topic, backlog.by_model, rates_s=rates_s),
    )


def beside_suspects(work: Work, suspects: int, *, worker_s: float) -> Work:
    """The work, with a signal that asks for one machine more for each suspect worker: it occupies one of the group's,
    and takes next to nothing. `worker_s`: seconds of work for which the group has one machine.

    Else a group that shrinks, and chooses by itself whom to delete, might keep the suspect alone. At most as many more
    as the work asks for: a group whose new machines are all broken does not grow for ever. Without work none is kept.
    """
    wanted = math.ceil(work.gpu_seconds / worker_s)
    return replace(work, suspects_s=min(suspects, wanted) * worker_s)


def mean_rate_s(*mixes: Mapping[str, int], rates_s: Mapping[str, float]) -> float:
    """Device seconds per request of unknown model: as in the first mix that has any requests, else the mean of all
    models that were measured, else a guess.
    """
    for mix in mixes:
        if total := sum(mix.values()):
            return sum(count * rates_s.get(model, GUESSED_RATE_S) for model, count in mix.items()) / total
    return sum(rates_s.values()) / len(rates_s) if rates_s else GUESSED_RATE_S

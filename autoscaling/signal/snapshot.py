"""A fleet at one moment, as Redis knows it: its work, its workers, its bridges."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter
from redis import Redis, RedisError

from lowtide.autoscaling.signal.backlog import Backlog, BacklogReader
from lowtide.autoscaling.signal.last_value import LastValue, SourceUnreadable
from lowtide.autoscaling.signal.signal import Bridges, Work, beside_suspects, outstanding
from lowtide.config import Settings
from lowtide.tasks.client.served import served
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.protocol import check
from lowtide.tasks.redis.registry import Kind, live
from lowtide.tasks.redis.trouble import trouble_of

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RetryingFields(BaseModel):
    """What failed lately in a worker so that another try may help."""

    why: str
    ago_s: Amount
    count: int


class WorkerStatusFields(BaseModel):
    """What a worker says of itself, as far as it is read here and by `lowtide status`."""

    name: str = ""
    busy: bool = False
    draining: bool = False
    deaf_to: list[str] = []
    suspect: str | None = None
    models: list[str] = []
    in_process: int = 0
    running: dict[str, int] = {}
    done: dict[str, int] = {}
    rates: dict[str, Amount] = {}
    started_at: datetime | None = None
    retrying: RetryingFields | None = None


class BridgeStatusFields(BaseModel):
    """Likewise a bridge."""

    leased: int = 0
    content_bytes: int = 0
    at_risk: int = 0
    oldest_at: Amount | None = None
    ignored: dict[str, int] = {}


STATUSES: dict[Kind, TypeAdapter[Any]] = {
    "worker": TypeAdapter(dict[str, WorkerStatusFields]),
    "bridge": TypeAdapter(dict[str, BridgeStatusFields]),
}
RATES = TypeAdapter(dict[str, Amount])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`at`: Unix time by Redis' clock. `workers` and `bridge_statuses`: name → what it says of itself. `rates_s`:
    measured device seconds per request, by model; kept by Redis when no worker lives, by the bridges when Redis
    forgets.
    """

    at: float
    backlog: Backlog
    workers: Mapping[str, Mapping[str, Any]]
    bridge_statuses: Mapping[str, Mapping[str, Any]]
    rates_s: Mapping[str, float]

    @property
    def bridges(self) -> Bridges:
        """What the bridges say, together."""
        return Bridges.of(self.bridge_statuses.values())

    @property
    def suspects(self) -> int:
        """How many of the workers are suspect."""
        return sum(bool(status.get("suspect")) for status in self.workers.values())

    @property
    def oldest_s(self) -> float | None:
        """Age of the oldest request that a bridge holds or Redis has, seconds; None without any."""
        known = [at for at in (self.bridges.oldest_at, self.backlog.oldest_at) if at is not None]
        return max(0.0, self.at - min(known)) if known else None

    def work(self, *, undelivered: int | None, worker_s: float) -> Work:
        """What is outstanding. `undelivered`: what Pub/Sub's metric says, None when it is not known; `worker_s`:
        seconds of work for which the group has one machine.
        """
        work = outstanding(undelivered=undelivered, backlog=self.backlog, bridges=self.bridges, rates_s=self.rates_s)
        return beside_suspects(work, self.suspects, worker_s=worker_s)


class Camera:
    """Takes snapshots of one fleet. Its models are those of the settings or, when it `asks`, those that the fleet has
    written to Redis, if any.
    """

    def __init__(self, redis: Redis, settings: Settings, *, asks: bool = False) -> None:
        self._redis = redis
        self._keys = Keys.of(settings)
        self._asks = asks
        self._own_models = self._models = settings.model_names
        self._backlog = BacklogReader(redis, self._keys, self._models)

    def take(self) -> Snapshot:
        """The fleet now. Raises RedisError, OtherProtocol among them; ValueError on what Lowtide has not written."""
        check(self._redis, self._keys)
        seconds, microseconds = self._redis.time()
        rates: Mapping[Any, Any] = self._redis.hgetall(self._keys.rates)
        workers = self._statuses("worker")
        if self._asks:
            self._ask()
        return Snapshot(
            at=seconds + microseconds / 1e6,
            bridge_statuses=self._statuses("bridge"),
            workers=workers,
            # Of a model that the fleet no longer serves the rate stays in Redis.
            rates_s=RATES.validate_python(
                {model: rates[key] for model in self._models if (key := model.encode()) in rates}
            ),
            backlog=self._backlog.read(),
        )

    def _statuses(self, kind: Kind) -> dict[str, dict[str, Any]]:
        statuses = live(self._redis, self._keys, kind)
        STATUSES[kind].validate_python(statuses)
        return statuses

    def _ask(self) -> None:
        names = served(self._redis, self._keys, otherwise=frozenset(self._own_models)) or frozenset()
        if names != set(self._models):
            self._models = tuple(sorted(names))
            self._backlog = BacklogReader(self._redis, self._keys, self._models)

    def held(self, *, clock: Callable[[], float] = time.monotonic) -> LastValue[Snapshot]:
        """Snapshots for whoever goes on while Redis is away."""
        return LastValue("redis", self._taken, clock=clock)

    def _taken(self) -> Snapshot:
        try:
            return self.take()
        except RedisError as error:
            raise SourceUnreadable(str(trouble_of(error))) from error
        except ValueError as error:
            raise SourceUnreadable(f"what it holds was not written by Lowtide: {error}") from error

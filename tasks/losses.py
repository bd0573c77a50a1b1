"""What Redis remembers of a task that was held before and not finished: losses, strikes, and outcomes that it has.

A *loss* is a worker that vanished while it held the task, which may be innocent of it. A *strike* is a loss while one
request ran alone in its process. All of it is forgotten after a day, and when Redis is emptied.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Task
from redis import Redis

from lowtide.tasks.keys import LOSS_S, Keys
from lowtide.tasks.wire import Outcome

STRIKES_MAX = 3
WORKER_LOST = "worker_lost"
"""The error type of a request that took its worker with it so often. A bridge makes it a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What befell a task before. `strikes` and `outcomes`: by place in the task, of those that have any."""

    losses: int = 0
    strikes: Mapping[int, int] = field(default_factory=dict)
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)


class Losses:
    """The histories of one fleet's tasks. Safe from any thread. Every method raises RedisError."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @classmethod
    def of(cls, task: Task) -> "Losses":
        """Of the fleet whose Redis `task` stores its results in."""
        return cls(task.backend.client, Keys(task.app.conf.broker_transport_options["global_keyprefix"]))

    def look(self, task: str) -> History:
        """What befell the task."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._keys.loss(task))
            pipe.hgetall(self._keys.strike(task))
            pipe.hgetall(self._keys.part(task))
            losses, strikes, outcomes = pipe.execute()
        return History(
            losses=int(losses or 0),
            strikes={int(index): int(count) for index, count in strikes.items()},
            outcomes={
                int(index): Outcome.model_validate_json(text, extra="ignore") for index, text in outcomes.items()
            },
        )

    def lost(self, task: str) -> None:
        """Count a loss: the process is about to end, and the task may be why."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.incr(self._keys.loss(task))
            pipe.expire(self._keys.loss(task), LOSS_S)
            pipe.execute()

    def strike(self, task: str, index: int) -> None:
        """The request is about to run alone: whoever never comes to absolve it was lost with it."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hincrby(self._keys.strike(task), str(index), 1)
            pipe.expire(self._keys.strike(task), LOSS_S)
            pipe.execute()

    def absolve(self, task: str, index: int, outcome: Outcome | None = None) -> None:
        """The process outlived the request: with this outcome, or none when it was handed back."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hincrby(self._keys.strike(task), str(index), -1)
            if outcome is not None:
                self._keep(pipe, task, {index: outcome})
            pipe.execute()

    def keep(self, task: str, outcomes: Mapping[int, Outcome]) -> None:
        """The task goes back: what it has need not be done again."""
        with self._redis.pipeline(transaction=False) as pipe:
            self._keep(pipe, task, outcomes)
            pipe.execute()

    def _keep(self, pipe: Any, task: str, outcomes: Mapping[int, Outcome]) -> None:
        key = self._keys.part(task)
        pipe.hset(key, mapping={str(index): json.dumps(outcome.to_wire()) for index, outcome in outcomes.items()})
        pipe.expire(key, LOSS_S)

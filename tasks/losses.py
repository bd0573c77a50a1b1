"""What Redis remembers of a task that was held before and not finished: losses, strikes, and outcomes that it has.

A *loss* is a worker that vanished while it held the task, which may be innocent of it. A *strike* is a loss while one
request ran alone in its process. Losses are counted by whoever gives the task back. A request that runs alone leaves a
mark with the number of losses so far: if a loss followed and the mark is still there, that is a strike. So a mark whose
writer had no answer counts for nothing by itself. All of it is forgotten after a day, and when Redis is emptied.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from celery import Task
from redis import Redis

from lowtide.tasks.keys import LOSS_S, Keys
from lowtide.tasks.wire import Outcome

log = logging.getLogger(__name__)

Thing = TypeVar("Thing")
Read = TypeVar("Read")

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
            found, marks, outcomes = pipe.execute()
        losses = int(found or 0)
        return History(
            losses=losses,
            strikes=Counter(index for index, after in _each(_mark_of, marks) if after < losses),
            outcomes=dict(_each(_part_of, outcomes.items())),
        )

    def lost(self, task: str) -> None:
        """Count a loss: the process is about to end, and the task may be why."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.incr(self._keys.loss(task))
            pipe.expire(self._keys.loss(task), LOSS_S)
            pipe.execute()

    def mark(self, task: str, index: int, *, after: int) -> None:
        """The request is about to run alone, after so many losses: the next one is a strike, unless it is absolved."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(self._keys.strike(task), _mark(index, after), 1)
            pipe.expire(self._keys.strike(task), LOSS_S)
            pipe.execute()

    def absolve(self, task: str, index: int, outcome: Outcome | None = None, *, after: int) -> None:
        """The process outlived the request that it had marked: with this outcome, or none when it was handed back."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hdel(self._keys.strike(task), _mark(index, after))
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


def _mark(index: int, after: int) -> str:
    return f"{index}:{after}"


def _mark_of(mark: bytes) -> tuple[int, int]:
    index, _, after = mark.partition(b":")
    return int(index), int(after)


def _part_of(part: tuple[bytes, bytes]) -> tuple[int, Outcome]:
    index, text = part
    return int(index), Outcome.model_validate_json(text, extra="ignore")


def _each(read: Callable[[Thing], Read], things: Iterable[Thing]) -> Iterator[Read]:
    """What can't be read was written by another release, and counts for nothing: at worst a request runs once more."""
    for thing in things:
        try:
            yield read(thing)
        except ValueError as error:
            log.warning("passing over what is no mark or outcome to this release: %s", error)

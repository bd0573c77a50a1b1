"""What Redis remembers of a task that was held before and not finished: losses, strikes, and outcomes that it has.

A *loss* is a worker that vanished while it held the task, which may be innocent of it. A *strike* is a loss while one
request ran alone in its process. Losses are counted by whoever gives the task back. What runs alone leaves a mark with
the number of losses so far: if a loss followed and the mark is still there, a single request gets a strike, and a group
is split for good. A mark alone counts for nothing, also one whose writer had no answer. All of it is forgotten after a
day, and when Redis is emptied.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from celery import Task
from redis import Redis

from lowtide.tasks.redis.keys import LOSS_S, Keys
from lowtide.tasks.wire.outcome import Outcome

log = logging.getLogger(__name__)

Thing = TypeVar("Thing")
Read = TypeVar("Read")

STRIKES_MAX = 3
STRAY_MAX = 3
"""So many losses that no mark explains: perhaps content ends the process while it is fetched, so that this must have a
mark as well. The first loss of all is one of them, and another may be an accident.
"""
WORKER_LOST = "worker_lost"
"""The error type of a request that took its worker with it so often. A bridge makes it a dead letter."""
GROUP = "g"
"""What the mark of a group begins with, and that of a single request does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Written before a request (`place`: its index) or a group (`place`: its number) runs alone. `after`: losses of
    the task so far.
    """

    place: int
    after: int
    is_group: bool = False

    def __str__(self) -> str:
        return f"{GROUP if self.is_group else ''}{self.place}:{self.after}"

    @classmethod
    def parse(cls, text: bytes) -> "Mark":
        """What `str` wrote. Raises ValueError."""
        place, _, after = text.decode().partition(":")
        is_group = place.startswith(GROUP)
        return cls(place=int(place.removeprefix(GROUP)), after=int(after), is_group=is_group)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What befell a task before. `strikes` and `outcomes`: by place in the task, of those that have any. `split`: the
    groups that were lost. `stray`: losses that no mark explains.
    """

    losses: int = 0
    strikes: Mapping[int, int] = field(default_factory=dict)
    split: frozenset[int] = frozenset()
    stray: int = 0
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
        lost = [mark for mark in _each(Mark.parse, marks) if mark.after < losses]
        return History(
            losses=losses,
            strikes=Counter(mark.place for mark in lost if not mark.is_group),
            split=frozenset(mark.place for mark in lost if mark.is_group),
            stray=losses - len({mark.after for mark in lost}),
            outcomes=dict(_each(_part_of, outcomes.items())),
        )

    def lost(self, task: str) -> None:
        """Count a loss: the process is about to end, and the task may be why."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.incr(self._keys.loss(task))
            pipe.expire(self._keys.loss(task), LOSS_S)
            pipe.execute()

    def mark(self, task: str, mark: Mark) -> None:
        """What the mark names is about to run alone: the next loss is due to it, unless it is absolved."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(self._keys.strike(task), str(mark), 1)
            pipe.expire(self._keys.strike(task), LOSS_S)
            pipe.execute()

    def absolve(self, task: str, mark: Mark, outcomes: Mapping[int, Outcome]) -> None:
        """The process outlived what it had marked: with these outcomes, or fewer when it was handed back."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(self._keys.strike(task), str(mark))
            self._keep(pipe, task, outcomes)
            pipe.execute()

    def keep(self, task: str, outcomes: Mapping[int, Outcome]) -> None:
        """The task goes back: what it has need not be done again."""
        with self._redis.pipeline(transaction=False) as pipe:
            self._keep(pipe, task, outcomes)
            pipe.execute()

    def _keep(self, pipe: Any, task: str, outcomes: Mapping[int, Outcome]) -> None:
        if not outcomes:
            return
        key = self._keys.part(task)
        pipe.hset(key, mapping={str(index): json.dumps(outcome.to_wire()) for index, outcome in outcomes.items()})
        pipe.expire(key, LOSS_S)


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

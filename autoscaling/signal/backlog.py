"""The work in Redis: what waits in the queues, what workers hold, and what the dead have left behind.

The lists alone read zero after a preemption, and nothing would ever scale up: what workers hold is work as well.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from redis import Redis

from lowtide.tasks.held.moves import due_lua
from lowtide.tasks.held.sweeper import QUIET_S
from lowtide.tasks.queues import lists_of, topic_queue, worker_queues
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.scripts import lua

WHOLE = 64
"""A list of so many messages is read whole; of a longer one, half as many from each end."""
BYTES = 1024 * 1024
"""Of one list. Redis serves nobody else while it copies: 4 to 5 ms per MiB, measured on two shared cores."""
ALL_BYTES = 8 * BYTES
"""Of all lists: with many models even one message of each may be too much."""


class State(StrEnum):
    """Where a request in Redis is."""

    QUEUED = "queued"
    """In a queue, and due."""
    HELD = "held"
    """A live worker has it: it waits in the process or runs."""
    LEFT_BEHIND = "left_behind"
    """Whoever had it has not been heard of for 20 s: it goes back to its queue as soon as anybody lives to do it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Requests by model and state, those `from_topic` of each model, and `chunks`: tasks that workers hold. Of long
    queues all are exact in messages and estimated in requests. `scheduled`: tasks that are not due, and no work so far.
    `oldest_at`: Unix time at which the oldest request was published or sent, or fell due, by its sender's clock; of a
    long queue, the oldest at its two ends.
    """

    requests: Mapping[tuple[str, State], int] = field(default_factory=dict)
    from_topic: Mapping[str, int] = field(default_factory=dict)
    chunks: int = 0
    scheduled: int = 0
    oldest_at: float | None = None

    @property
    def by_model(self) -> dict[str, int]:
        """Requests of each model."""
        models: Counter[str] = Counter()
        for (model, _), count in self.requests.items():
            models[model] += count
        return dict(models)


class BacklogReader:
    """Reads one fleet's Redis, in one step: what moves meanwhile is neither missed nor counted twice."""

    def __init__(self, redis: Redis, keys: Keys, models: Sequence[str]) -> None:
        self._models = tuple(models)
        self._model_of = {queue: model for model in models for queue in worker_queues([model])}
        self._topic_queues = frozenset(map(topic_queue, models))
        self._queue_of = {keys.queue(name): queue for queue in worker_queues(models) for name in lists_of(queue)}
        self._keys = [keys.workers, keys.scheduled, *self._queue_of]
        self._held_prefix = keys.held("")
        self._script = redis.register_script(due_lua() + lua(__package__, "backlog"))

    def read(self) -> Backlog:
        """The backlog now. Raises RedisError."""
        *lists, held, left, due, scheduled, oldest_at = self._script(
            keys=self._keys, args=[WHOLE, WHOLE // 2, BYTES, ALL_BYTES, QUIET_S, self._held_prefix]
        )
        by_queue: Counter[tuple[str, State]] = Counter()
        # A list that the bound left unread is taken to be like those that were read.
        mean = sum(found for _, _, found, _ in lists) / max(1, sum(read for _, read, _, _ in lists))
        for queue, (length, read, found, later) in zip(self._queue_of.values(), lists, strict=True):
            count = _scaled(found, messages=length, read=read) if read else round(mean * length)
            by_queue[queue, State.QUEUED] += count
            scheduled += _scaled(later, messages=length, read=read)
        for state, group in ((State.HELD, held), (State.LEFT_BEHIND, left), (State.QUEUED, due)):
            for queue, count in self._of_group(group).items():
                by_queue[queue, state] += count
        requests = Counter({(model, state): 0 for model in self._models for state in State})
        from_topic: Counter[str] = Counter()
        for (queue, state), count in by_queue.items():
            requests[self._model_of[queue], state] += count
            if queue in self._topic_queues:
                from_topic[self._model_of[queue]] += count
        return Backlog(
            requests=dict(requests),
            from_topic=dict(from_topic),
            chunks=held[0] + left[0],
            scheduled=scheduled,
            oldest_at=float(oldest_at) if oldest_at else None,
        )

    def _of_group(self, group: Sequence[Any]) -> dict[str, int]:
        messages, read, *sample = group
        found: Counter[str] = Counter()
        for name, count in zip(sample[::2], sample[1::2], strict=True):
            key = name.decode(errors="replace") if isinstance(name, bytes) else name
            if key in self._queue_of:
                found[self._queue_of[key]] += count
        return {queue: _scaled(count, messages=messages, read=read) for queue, count in found.items()}


def _scaled(found: int, *, messages: int, read: int) -> int:
    """Requests of all messages, as those in the `read` ones are."""
    return round(found * messages / read) if read else 0

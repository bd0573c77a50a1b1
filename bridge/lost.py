"""The last backstop of B4: a chunk that is nowhere, though workers live, is given up, so that its messages go again.

Redis' replies can be lost, and so can a task that a stock Celery worker popped and did not record.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from redis import Redis, RedisError

from lowtide.bridge.flight import Flight, InFlight
from lowtide.bridge.gauge import Gauge
from lowtide.bridge.leaser import Leaser
from lowtide.config import Settings
from lowtide.tasks.chunks import ChunkResults
from lowtide.tasks.keys import Keys
from lowtide.tasks.queues import topic_queue

log = logging.getLogger(__name__)

LOOK_S = 15.0
OLD_S = 60.0
"""Chunks younger than this are not looked for."""
GONE_S = 60.0
"""Longer than any step from one place to the next takes: a reaper's 20 s, a worker's lt:run of 30 s."""


class Backstop:
    """`turn` every `LOOK_S`, from one thread."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        settings: Settings,
        *,
        owner: str,
        in_flight: InFlight,
        results: ChunkResults,
        leaser: Leaser,
        gauge: Gauge,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._queues = [keys.queue(topic_queue(model)) for model in settings.model_names]
        self._ours = re.compile(rf"{owner}\.[0-9a-f]{{32}}".encode())
        self._in_flight = in_flight
        self._results = results
        self._leaser = leaser
        self._gauge = gauge
        self._clock = clock
        self._missing: dict[str, float] = {}

    def turn(self) -> None:
        """Look for old chunks; give up those that were nowhere for `GONE_S`."""
        old = self._in_flight.older_than(OLD_S)
        try:
            nowhere = self._nowhere(old) if old and self._gauge.workers else set()
        except RedisError as error:
            log.debug("not looking for old chunks: %s", error)
            nowhere = set()
        now_s = self._clock()
        self._missing = {task_id: self._missing.get(task_id, now_s) for task_id in nowhere}
        for task_id, since_s in self._missing.items():
            if now_s - since_s >= GONE_S:
                self._give_up(task_id)

    def _nowhere(self, old: Sequence[Flight]) -> set[str]:
        wanted = {flight.task_id for flight in old}
        wanted -= self._mentioned(self._redis.hvals(self._keys.unacked))
        for queue in self._queues:
            wanted -= self._mentioned(self._redis.lrange(queue, 0, -1))
        with self._redis.pipeline(transaction=False) as pipe:
            left = sorted(wanted)
            for task_id in left:
                pipe.exists(self._keys.run(task_id), self._keys.result(task_id))
            return {task_id for task_id, found in zip(left, pipe.execute(), strict=True) if not found}

    def _mentioned(self, messages: Iterable[Any]) -> set[str]:
        return {found.decode() for message in messages for found in self._ids(message)}

    def _ids(self, message: bytes) -> Iterator[bytes]:
        # Not parsed: an id of ours is nothing that base64 contents could hold, because of its dot.
        return iter(self._ours.findall(message))

    def _give_up(self, task_id: str) -> None:
        flight = self._in_flight.land(task_id)
        if flight is None:
            return
        log.warning("chunk %s of %d requests is lost: handing its messages back", task_id, len(flight.items))
        self._results.unwatch(task_id)
        self._leaser.hand_back([item.received.key for item in flight.items])
        self._in_flight.settled([task_id] * len(flight.items))

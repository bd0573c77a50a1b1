"""The last backstop of B4: a chunk that is nowhere, though workers live, is given up, so that its messages go again."""

import logging
import time
from collections.abc import Callable

from redis import Redis, RedisError

from lowtide.bridge.flight import InFlight
from lowtide.bridge.gauge import Gauge
from lowtide.bridge.leaser import Leaser
from lowtide.bridge.records import Records
from lowtide.tasks.chunks import ChunkResults
from lowtide.tasks.keys import Keys
from lowtide.tasks.lost import LostTasks
from lowtide.tasks.queues import topic_queue

log = logging.getLogger(__name__)

LOOK_S = 15.0
OLD_S = 60.0
"""Chunks younger than this are not looked for."""
GONE_S = 60.0
"""Longer than any step from one place to the next takes: the 20 s of a sweeper, and as many until another leads."""


class Backstop:
    """`turn` every `LOOK_S`, from one thread."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        owner: str,
        in_flight: InFlight,
        records: Records,
        results: ChunkResults,
        leaser: Leaser,
        gauge: Gauge,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lost = LostTasks(redis, keys, owner, gone_s=GONE_S, clock=clock)
        self._in_flight = in_flight
        self._records = records
        self._results = results
        self._leaser = leaser
        self._gauge = gauge

    def turn(self) -> None:
        """Look for old chunks; give up those that were nowhere for `GONE_S`."""
        old = self._in_flight.older_than(OLD_S) if self._gauge.workers else []
        try:
            lost = self._lost.look({flight.task_id: topic_queue(flight.items[0].request.model) for flight in old})
        except RedisError as error:
            log.debug("not looking for old chunks: %s", error)
            return
        for task_id in lost:
            self._give_up(task_id)

    def _give_up(self, task_id: str) -> None:
        flight = self._in_flight.land(task_id)
        if flight is None:
            return
        log.warning("chunk %s of %d requests is lost: handing its messages back", task_id, len(flight.items))
        self._results.unwatch(task_id)
        self._leaser.hand_back([item.received.key for item in flight.items])
        self._records.forget(self._in_flight.settled([task_id] * len(flight.items)))

"""Reads from Redis: live workers and bridges, waiting tasks, seconds per request."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from redis import Redis, ResponseError

from lowtide.bridge.credit import Fleet
from lowtide.config import Settings
from lowtide.tasks.chunks.packing import Packing
from lowtide.tasks.queues import topic_queue
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.rates import measured
from lowtide.tasks.redis.registry import alive, registered

LOOK_EVERY_S = 1.0
MEMORY_EVERY_S = 60.0


class FleetReader:
    """Reads Redis. From one thread; `packing` and `workers` from any."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        settings: Settings,
        *,
        bridge: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._settings = settings
        self._bridge = bridge
        self._clock = clock
        self._queues = [keys.queue(topic_queue(model)) for model in settings.model_names]
        self._looked_s = -LOOK_EVERY_S
        self._asked_memory_s = -MEMORY_EVERY_S
        self._redis_max_bytes = 0
        self._fleet = Fleet(workers=0, bridges=1, waiting=0)
        self.packing = self._packing({})

    @property
    def workers(self) -> int:
        """How many lived when that was read last."""
        return self._fleet.workers

    def read(self) -> Fleet:
        """The fleet now; who lives and the rates are up to a second old. Raises RedisError."""
        if self._clock() - self._looked_s >= LOOK_EVERY_S:
            self._look()
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in self._queues:
                pipe.llen(queue)
            waiting = sum(pipe.execute())
        return replace(self._fleet, waiting=waiting)

    def _look(self) -> None:
        self._ask_memory()
        self._fleet = Fleet(
            workers=alive(self._redis, self._keys, "worker"),
            bridges=max(1, alive(self._redis, self._keys, "bridge")),
            waiting=0,
            redis_max_bytes=self._redis_max_bytes,
            others_bytes=self._content_of_others() if self._redis_max_bytes else 0,
        )
        found = measured(self._redis, self._keys)
        known = self.packing.rates_s
        # An emptied Redis must not make every model look unmeasured: the scaling signal counts in seconds.
        for model in known.keys() - found.keys():
            self._redis.hsetnx(self._keys.rates, model, str(known[model]))
        self.packing = self._packing({**known, **found})
        self._looked_s = self._clock()

    def _content_of_others(self) -> int:
        """As their last heartbeats say, also those of bridges that vanished: they are in the register for as long as
        their content is there. O(bridges).
        """
        bridges = registered(self._redis, self._keys, "bridge")
        sizes = [status.get("content_bytes") for name, status in bridges.items() if name != self._bridge]
        return sum(size for size in sizes if isinstance(size, int))

    def _ask_memory(self) -> None:
        """Seldom: it changes when somebody configures Redis."""
        if self._clock() - self._asked_memory_s < MEMORY_EVERY_S:
            return
        try:
            self._redis_max_bytes = int(self._redis.info("memory").get("maxmemory", 0))
        except ResponseError:  # a provider that hides it
            self._redis_max_bytes = 0
        self._asked_memory_s = self._clock()

    def _packing(self, rates_s: Mapping[str, float]) -> Packing:
        return Packing(
            max_requests=self._settings.chunk_max_requests,
            max_bytes=self._settings.chunk_max_bytes,
            max_work_s=self._settings.chunk_work_s,
            rates_s=rates_s,
        )

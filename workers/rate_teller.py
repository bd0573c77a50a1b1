"""Tells the fleet what this worker measured: device seconds per request of each model, for bridges and the scaling."""

import logging
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError

from lowtide.config.process.loop import Periodic
from lowtide.tasks.redis.keys import Keys

log = logging.getLogger(__name__)

TELL_S = 5.0


class RateTeller(Periodic):
    """Its life is `start` → the rates every 5 s, and once more at the end → `stop`."""

    def __init__(self, redis: Redis, keys: Keys, rates: Callable[[], dict[str, float]]) -> None:
        super().__init__("rates", self.tell, pause_s=lambda: TELL_S, at_end=True)
        self._redis = redis
        self._keys = keys
        self._rates = rates

    def tell(self) -> None:
        """Tell once. When Redis is away, whoever needs it says so."""
        rates = self._rates()
        if not rates:
            return
        try:
            self._redis.hset(self._keys.rates, mapping=dict[Any, Any](rates))
        except RedisError as error:
            log.debug("the rates could not be told: %s", error)

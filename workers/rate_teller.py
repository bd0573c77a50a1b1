"""Tells the fleet what this worker measured: device seconds per request of each model, for bridges and the scaling."""

import logging
import time
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError

from lowtide.config.process.loop import Periodic
from lowtide.tasks.redis.keys import Keys

log = logging.getLogger(__name__)

LOOK_S = 0.5
TELL_S = 5.0
CHANGED = 2.0
"""A rate that is so many times another is told at once. A model's first batches may take far longer than those that
follow, and bridges, callers and the scaling would reckon by that for five seconds.
"""


class RateTeller(Periodic):
    """Its life is `start` → all rates every 5 s, as soon as there is a new one or one is far from what was told, and
    once more at the end → `stop`. Until the first is told, bridges and callers pack by a guess: much smaller chunks
    than a quick model needs.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        rates: Callable[[], dict[str, float]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("rates", self.turn, pause_s=lambda: LOOK_S, at_end=True)
        self._redis = redis
        self._keys = keys
        self._rates = rates
        self._clock = clock
        self._told: dict[str, float] = {}
        self._told_s = clock()

    def turn(self) -> None:
        """Tell if it is time to. When Redis is away, whoever needs it says so."""
        rates = self._rates()
        due = self.stopping or self._clock() - self._told_s >= TELL_S
        if not rates or not (due or any(self._is_news(model, rate_s) for model, rate_s in rates.items())):
            return
        try:
            self._redis.hset(self._keys.rates, mapping=dict[Any, Any](rates))
        except RedisError as error:
            log.debug("the rates could not be told: %s", error)
        else:
            self._told = rates
            self._told_s = self._clock()

    def _is_news(self, model: str, rate_s: float) -> bool:
        told_s = self._told.get(model, 0.0)
        return max(rate_s, told_s) >= CHANGED * min(rate_s, told_s)

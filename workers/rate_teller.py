"""Tells the fleet what this worker measured: device seconds per request of each model, for bridges and the scaling."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError

from lowtide.tasks.keys import Keys

log = logging.getLogger(__name__)

TELL_S = 5.0


class RateTeller:
    """One thread; its life is `start` → a word every 5 s → `stop`."""

    def __init__(self, redis: Redis, keys: Keys, rates: Callable[[], dict[str, float]]) -> None:
        self._redis = redis
        self._keys = keys
        self._rates = rates
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rates", daemon=True)

    def start(self) -> None:
        """Tell from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Tell once more, then no more. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def tell(self) -> None:
        """Tell once. A Redis that is away is told of by whoever needs it, not here."""
        rates = self._rates()
        if not rates:
            return
        try:
            self._redis.hset(self._keys.rates, mapping=dict[Any, Any](rates))
        except RedisError as error:
            log.debug("the rates could not be told: %s", error)

    def _run(self) -> None:
        while not self._stopped.wait(TELL_S):
            self.tell()
        self.tell()

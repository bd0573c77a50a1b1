"""`Rights`: says once which rights the user of Redis lacks, and waits until they are granted."""

import logging
import math
import time
from collections.abc import Callable

from redis import RedisError

from lowtide.config import Settings
from lowtide.config.redis_url import RedisAddress
from lowtide.tasks.redis.access import Access, Lack
from lowtide.tasks.redis.connect import connect

log = logging.getLogger(__name__)

FIRST_S, MOST_S = 1.0, 30.0
LOOK_S = 0.2
CALM_S = 60.0
"""After so long without a refusal the pauses begin anew."""


class Rights:
    """Of one process. Use from one thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        remote: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`remote`: this process takes part in Celery's remote control and events."""
        self._access = Access.of(settings)
        self._user = RedisAddress.of(settings.redis_url).username or "default"
        self._redis = connect(settings)
        self._remote = remote
        self._sleep = sleep
        self._clock = clock
        self._told: set[Lack] = set()
        self._pause_s = FIRST_S
        self._refused_s = -math.inf

    def wait(self, look: Callable[[], None] = lambda: None, *, refused: bool = False) -> None:
        """Return when keys and channels may be used. A command that is lacking is told of alone, for not every process
        runs every command; but if something was `refused`, there is a pause in any case. Calls `look` five times a
        second, which may raise to end this. A Redis that is away is for others to tell of.
        """
        while self._lacks_a_place() or refused:
            self._pause(look)
            refused = False

    def _lacks_a_place(self) -> bool:
        try:
            lacks = [lack for lack in self._access.missing(self._redis) if self._remote or not lack.remote]
        except RedisError:
            return False
        for lack in lacks:
            if lack not in self._told:
                remedy = f"ACL SETUSER {self._user} {lack.rule}"
                log.error("Redis: the user %s may not use %s → %s", self._user, lack.what, remedy)
        self._told = set(lacks)
        return any(lack.is_place for lack in lacks)

    def _pause(self, look: Callable[[], None]) -> None:
        """Longer each time."""
        now_s = self._clock()
        self._pause_s = FIRST_S if now_s - self._refused_s > CALM_S else min(2 * self._pause_s, MOST_S)
        until_s = now_s + self._pause_s
        while self._clock() < until_s:
            look()
            self._sleep(LOOK_S)
        self._refused_s = self._clock()

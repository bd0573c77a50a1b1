"""Looks again at the records of messages that are held for long.

Two bridges may hold the same message: a lease was lost, or Pub/Sub delivered it twice. When one of them has settled it,
its record stays for ten minutes. The other may wait for a worker for longer than that: it has to see the record while
it is there, and keeps it until it comes to claim.
"""

import logging
import time
from collections.abc import Callable

from redis import RedisError

from lowtide.bridge.leases import Leases
from lowtide.bridge.records import Records

log = logging.getLogger(__name__)

LOOK_S = 15.0
"""Far below the time for which a look counts (leases.LOOK_VALID_S): many may fail."""
AT_ONCE = 1000


class Lookout:
    """`turn` every `LOOK_S`, from one thread. What it has not seen for too long is not published: see Settler."""

    def __init__(self, records: Records, leases: Leases, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._records = records
        self._leases = leases
        self._clock = clock

    def turn(self) -> None:
        """Look once at all that is held."""
        held = self._leases.keys()
        try:
            for start in range(0, len(held), AT_ONCE):
                self._look(held[start : start + AT_ONCE])
        except RedisError as error:
            log.debug("not looking at the records of what is held: %s", error)

    def _look(self, keys: list[str]) -> None:
        asked_s = self._clock()
        self._records.keep(keys)
        self._leases.looked(keys, asked_s)

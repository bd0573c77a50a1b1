"""Looks again at the records of messages that are held for long, and renews what Redis keeps for them.

Two bridges may hold the same message: a lease was lost, or Pub/Sub delivered it twice. When one of them has settled it,
its record stays for ten minutes. The other may wait for a worker for longer than that: it must see the record before it
expires, and renews it until it claims.
"""

import logging
import time
from collections.abc import Callable

from redis import RedisError

from lowtide.bridge.held.held import Held
from lowtide.bridge.held.records import Records

log = logging.getLogger(__name__)

LOOK_S = 15.0
"""Far below the time for which a look counts (held.LOOK_VALID_S): many may fail."""
AT_ONCE = 1000


class RecordWatch:
    """`turn` every `LOOK_S`, from one thread. `Settler` hands back what was not looked at for `LOOK_VALID_S`."""

    def __init__(self, *, records: Records, held: Held, clock: Callable[[], float] = time.monotonic) -> None:
        self._records = records
        self._held = held
        self._clock = clock

    def turn(self) -> None:
        """Look once at all that is held."""
        keys = self._held.keys()
        try:
            for start in range(0, len(keys), AT_ONCE):
                self._look(keys[start : start + AT_ONCE])
        except RedisError as error:
            log.debug("not looking at the records of what is held: %s", error)

    def _look(self, keys: list[str]) -> None:
        asked_s = self._clock()
        self._records.keep(keys)
        self._held.looked(keys, asked_s)

"""Looks again at the records of messages that are held for long, and renews what Redis keeps for them.

Two bridges may hold the same message: a lease was lost, or Pub/Sub delivered it twice. When one of them has settled it,
its record stays for ten minutes. The other may wait for a worker for longer than that: it has to see the record while
it is there, and keeps it until it comes to claim. Content of chunks that wait for workers is kept likewise, and what
Redis did not delete when it was told is deleted now.
"""

import logging
import time
from collections.abc import Callable

from redis import RedisError

from lowtide.bridge.flight import InFlight
from lowtide.bridge.leases import Leases
from lowtide.bridge.records import Records
from lowtide.tasks.blob import RENEW_S, Blobs

log = logging.getLogger(__name__)

LOOK_S = 15.0
"""Far below the time for which a look counts (leases.LOOK_VALID_S): many may fail."""
AT_ONCE = 1000


class Lookout:
    """`turn` every `LOOK_S`, from one thread. What it has not seen for too long is not published: see Settler."""

    def __init__(
        self,
        records: Records,
        leases: Leases,
        in_flight: InFlight,
        blobs: Blobs,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._leases = leases
        self._in_flight = in_flight
        self._blobs = blobs
        self._clock = clock
        self._renewed_s = clock()

    def turn(self) -> None:
        """Look once at all that is held."""
        held = self._leases.keys()
        try:
            for start in range(0, len(held), AT_ONCE):
                self._look(held[start : start + AT_ONCE])
            self._renew()
            self._records.forget([])
        except RedisError as error:
            log.debug("not looking at the records of what is held: %s", error)

    def _look(self, keys: list[str]) -> None:
        asked_s = self._clock()
        self._records.keep(keys)
        self._leases.looked(keys, asked_s)

    def _renew(self) -> None:
        now_s = self._clock()
        if now_s - self._renewed_s >= RENEW_S:
            self._blobs.renew(flight.task_id for flight in self._in_flight.older_than(0.0) if flight.has_content)
            self._renewed_s = now_s

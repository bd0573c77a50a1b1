"""B8: acknowledge what is published, until Pub/Sub confirms."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

from redis import RedisError

from lowtide.bridge.flight import InFlight
from lowtide.bridge.leases import Leases
from lowtide.bridge.messages import Settled
from lowtide.bridge.pubsub import Pubsub, PubsubRefused, PubsubUnavailable
from lowtide.bridge.records import Records
from lowtide.bridge.waiting import Waiting
from lowtide.tasks.outage import Outages

log = logging.getLogger(__name__)

BULK = 1000
AGAIN_S = 1.0


class Acker:
    """`put` from any thread; `turn` from one."""

    def __init__(self, *, pubsub: Pubsub, records: Records, leases: Leases, in_flight: InFlight) -> None:
        self._pubsub = pubsub
        self._records = records
        self._leases = leases
        self._in_flight = in_flight
        self._waiting: Waiting[Settled] = Waiting()
        self._outages = Outages("can't acknowledge messages")

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, settled: Iterable[Settled]) -> None:
        """These may be acknowledged."""
        self._waiting.put(settled)

    def turn(self, timeout_s: float) -> None:
        """Acknowledge what waits, in one go; wait up to `timeout_s` for the first."""
        with self._waiting.take(BULK, timeout_s=timeout_s) as bulk:
            by_subscription: dict[str, list[Settled]] = defaultdict(list)
            for settled in bulk:
                by_subscription[settled.subscription].append(settled)
            for subscription, part in by_subscription.items():
                self._acknowledge(subscription, part)

    def _acknowledge(self, subscription: str, bulk: Sequence[Settled]) -> None:
        """Each subscription for itself: one that can't be reached keeps no others from it."""
        keys = [settled.key for settled in bulk]
        outage = self._outages.of(subscription)
        try:
            self._pubsub.acknowledge(subscription, self._leases.by_subscription(keys).get(subscription, []))
        except PubsubUnavailable as error:
            outage.failed(error)
            self._waiting.put(bulk, after_s=AGAIN_S)
        except PubsubRefused as error:
            # The subscription is gone, or not ours to acknowledge. If it comes back, so do the messages: done.
            outage.failed(error)
            self._finish(bulk, keys, forgotten=[])
        else:
            outage.over()
            # Pub/Sub confirms an ack that is too late as well, and delivers the message again: days later, perhaps.
            self._finish(bulk, keys, forgotten=self._leases.surely_ours(keys))

    def _finish(self, bulk: Sequence[Settled], keys: Sequence[str], *, forgotten: Sequence[str]) -> None:
        finished = self._in_flight.settled(settled.task_id for settled in bulk)
        try:
            self._records.acknowledged(forgotten)
        except RedisError as error:
            log.debug("the records of %d messages expire by themselves: %s", len(keys), error)
        self._records.forget(finished)
        self._leases.release(keys)

"""Acknowledge what is published, until Pub/Sub confirms."""

import logging
from collections import defaultdict
from collections.abc import Sequence

from redis import RedisError

from lowtide.bridge.held.held import Held
from lowtide.bridge.held.records import Records
from lowtide.bridge.messages.kinds import subscription_of
from lowtide.bridge.pubsub.client import Pubsub, PubsubRefused, PubsubUnavailable
from lowtide.bridge.waits import USUAL, Waits
from lowtide.config.process.outage import Outages

log = logging.getLogger(__name__)

BULK = 1000


class Acknowledger:
    """`turn` from one thread."""

    def __init__(self, *, pubsub: Pubsub, records: Records, held: Held, waits: Waits = USUAL) -> None:
        self._pubsub = pubsub
        self._records = records
        self._held = held
        self._waits = waits
        self._outages = Outages("can't acknowledge messages")

    def turn(self, timeout_s: float) -> None:
        """Acknowledge what waits, in one go; wait up to `timeout_s` for the first."""
        with self._held.to_acknowledge.take(BULK, timeout_s=timeout_s) as bulk:
            by_subscription: dict[str, list[str]] = defaultdict(list)
            for key in bulk:
                by_subscription[subscription_of(key)].append(key)
            for subscription, keys in by_subscription.items():
                self._acknowledge(subscription, keys)

    def _acknowledge(self, subscription: str, keys: Sequence[str]) -> None:
        """Each subscription for itself: one that can't be reached keeps no others from it."""
        outage = self._outages.of(subscription)
        try:
            self._pubsub.acknowledge(subscription, self._held.ack_ids(keys).get(subscription, []))
        except PubsubUnavailable as error:
            outage.failed(error)
            self._held.to_acknowledge.put(keys, after_s=self._waits.again_s)
        except PubsubRefused as error:
            # The subscription is gone, or not ours to acknowledge. If it comes back, so do the messages: done.
            outage.failed(error)
            self._finish(keys, forgotten=[])
        else:
            outage.over()
            # Pub/Sub confirms an ack that is too late as well, and delivers the message again: days later, perhaps.
            self._finish(keys, forgotten=self._held.surely_ours(keys))

    def _finish(self, keys: Sequence[str], *, forgotten: Sequence[str]) -> None:
        try:
            self._records.acknowledged(forgotten)
        except RedisError as error:
            log.debug("the records of %d messages expire by themselves: %s", len(keys), error)
        self._records.forget(self._held.release(keys).done_with)

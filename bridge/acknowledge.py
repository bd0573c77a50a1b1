"""Acknowledge what is published, until Pub/Sub confirms; and delete what nobody needs any more in Redis."""

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
from lowtide.tasks.chunks.blob import Blobs

log = logging.getLogger(__name__)

BULK = 1000
UNDELETED_MAX = 10_000
"""What is more expires, ten minutes after it was sent."""


class Acknowledger:
    """`turn` from one thread."""

    def __init__(self, *, pubsub: Pubsub, records: Records, blobs: Blobs, held: Held, waits: Waits = USUAL) -> None:
        self._pubsub = pubsub
        self._records = records
        self._blobs = blobs
        self._held = held
        self._waits = waits
        self._outages = Outages("can't acknowledge messages")

    def turn(self, timeout_s: float) -> None:
        """Acknowledge what waits, in one go; wait up to `timeout_s` for the first. Then delete."""
        with self._held.to_acknowledge.take(BULK, timeout_s=timeout_s) as bulk:
            by_subscription: dict[str, list[str]] = defaultdict(list)
            for key in bulk:
                by_subscription[subscription_of(key)].append(key)
            for subscription, keys in by_subscription.items():
                self._acknowledge(subscription, keys)
        self._delete()

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
        self._held.release(keys)

    def _delete(self) -> None:
        """The results and the content of chunks whose messages are acknowledged or handed back."""
        with self._held.to_delete.take(UNDELETED_MAX, timeout_s=0.0) as task_ids:
            try:
                self._blobs.forget(task_ids)
            except RedisError as error:
                log.debug("the results of %d chunks are deleted later: %s", len(task_ids), error)
                if len(self._held.to_delete) <= UNDELETED_MAX:
                    self._held.to_delete.put(task_ids, after_s=self._waits.delete_again_s)

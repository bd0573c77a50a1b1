"""The thread that keeps what the bridge holds from being delivered to others, and hands back what it gives up."""

import logging
import time
from collections.abc import Callable, Iterable

from lowtide.bridge.leases import LEASE_S, Leases
from lowtide.bridge.pubsub import Pubsub, PubsubError, PubsubRefused, PubsubUnavailable
from lowtide.tasks.outage import Outages

log = logging.getLogger(__name__)

RENEW_AGE_S = 8.0
"""With the tick below, every lease is renewed within 10 s: also one of a subscription that somebody made with 10 s."""
TICK_S = 1.0


class Leaser:
    """`turn` renews what is due; the rest may be called from any thread."""

    def __init__(self, pubsub: Pubsub, leases: Leases, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pubsub = pubsub
        self._leases = leases
        self._clock = clock
        self._outages = Outages("can't change leases")

    def turn(self) -> None:
        """Renew what is due."""
        for subscription, keys in self._leases.due(RENEW_AGE_S).items():
            self._renew(subscription, keys)

    def hand_back(self, keys: Iterable[str], *, after_s: float = 0.0) -> None:
        """Give messages up: Pub/Sub delivers them again after `after_s`, to us or to others."""
        keys = list(keys)
        ids = self._leases.by_subscription(keys)
        # Released first: once Pub/Sub knows, a new delivery may arrive at any moment, and must count as new.
        self._leases.release(keys)
        for subscription, ack_ids in ids.items():
            try:
                self._pubsub.modify_ack_deadline(subscription, ack_ids, int(after_s))
            except PubsubRefused as error:
                # Then the lease ends by itself.
                self._outages.of(subscription).failed(error)
            except PubsubUnavailable as error:
                # As do those of the other subscriptions: each call might take as long, and the caller is waiting.
                self._outages.of(subscription).failed(error)
                return

    def _renew(self, subscription: str, keys: list[str]) -> None:
        asked_s = self._clock()
        ack_ids = self._leases.by_subscription(keys).get(subscription, [])
        try:
            self._pubsub.modify_ack_deadline(subscription, ack_ids, LEASE_S)
        except PubsubError as error:
            self._outages.of(subscription).failed(error)
            return
        self._outages.of(subscription).over()
        if late := self._leases.renewed(keys, asked_s):
            log.warning("leases of %d messages lapsed before they were renewed: others may work on them as well", late)

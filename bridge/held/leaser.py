"""Renews the leases of messages that are held, and ends those of messages that are given up."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from lowtide.bridge.held.held import LEASE_S, Held
from lowtide.bridge.pubsub.client import Pubsub, PubsubError, PubsubRefused, PubsubUnavailable
from lowtide.config.process.outage import Outages

log = logging.getLogger(__name__)

RENEW_AGE_S = 8.0
"""With the tick below, every lease is renewed within 10 s: also one of a subscription that somebody made with 10 s."""
TICK_S = 1.0


class Leaser:
    """`turn` renews what is due; the rest may be called from any thread."""

    def __init__(self, *, pubsub: Pubsub, held: Held, clock: Callable[[], float] = time.monotonic) -> None:
        self._pubsub = pubsub
        self._held = held
        self._clock = clock
        self._outages = Outages("can't change leases")

    def turn(self) -> None:
        """Renew what is due."""
        for subscription, keys in self._held.due(RENEW_AGE_S).items():
            self._renew(subscription, keys)

    def hand_back(self, keys: Iterable[str], *, after_s: float = 0.0) -> None:
        """Give messages up: Pub/Sub delivers them again after `after_s`, to us or to others. Redis, which may be away,
        is asked nothing.
        """
        # Released first: once Pub/Sub knows, a new delivery may arrive at any moment, and must count as new.
        self._end_leases(self._held.release(keys), after_s)

    def _end_leases(self, ack_ids: Mapping[str, Sequence[str]], after_s: float) -> None:
        for subscription, ids in ack_ids.items():
            try:
                self._pubsub.modify_ack_deadline(subscription, ids, int(after_s))
            except PubsubRefused as error:
                # Then the lease ends by itself.
                self._outages.of(subscription).failed(error)
            except PubsubUnavailable as error:
                # As do those of the other subscriptions: each call might take as long, and the caller is waiting.
                self._outages.of(subscription).failed(error)
                return

    def _renew(self, subscription: str, keys: list[str]) -> None:
        asked_s = self._clock()
        ack_ids = self._held.ack_ids(keys).get(subscription, [])
        try:
            self._pubsub.modify_ack_deadline(subscription, ack_ids, LEASE_S)
        except PubsubError as error:
            self._outages.of(subscription).failed(error)
            return
        self._outages.of(subscription).over()
        if late := self._held.renewed(keys, asked_s):
            log.warning("leases of %d messages lapsed before they were renewed: others may work on them as well", late)

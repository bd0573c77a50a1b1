"""Pulls under way: at most one per subscription, asked for in the order of the settings.

A pull is never cancelled but at the end: what Pub/Sub answers at that moment would be leased to nobody.
"""

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from lowtide.bridge.leases import LEASE_S
from lowtide.bridge.messages import Received
from lowtide.bridge.pubsub import Pb, Pubsub, error_of

PARKED_S = 0.25
"""A pull that waits for longer found nothing: what it asked for is not kept from subscriptions after it, so an idle
one doesn't starve them. Should both fill at the same moment, the bridge holds that much more, once.
"""

NOTHING = "DEADLINE_EXCEEDED"
"""How an emulator says that there was nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One call under way. `asked_s`: monotonic."""

    future: grpc.Future
    count: int
    asked_s: float


class Pulls:
    """From one thread."""

    def __init__(
        self, pubsub: Pubsub, subscriptions: Sequence[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pubsub = pubsub
        self._subscriptions = tuple(subscriptions)
        self._clock = clock
        self._under_way: dict[str, Pull] = {}
        self._answered: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(self, credit: int) -> None:
        """Ask for up to `credit` messages in all, of the most urgent subscription that is not being asked already."""
        left = credit - self._reserved()
        for subscription in self._subscriptions:
            if left <= 0:
                return
            if subscription not in self._under_way:
                self._ask(subscription, left)
                left = 0

    def take(self, timeout_s: float) -> list[Received] | None:
        """What an answer brought; None when no answer came within `timeout_s`. Raises PubsubError.

        An answer that is so old that its leases may have lapsed brings nothing.
        """
        try:
            subscription = self._answered.get(timeout=timeout_s)
        except queue.Empty:
            return None
        return self._messages(subscription)

    def cancel(self) -> list[Received]:
        """End the pulls; returns what they brought nevertheless."""
        for pull in self._under_way.values():
            pull.future.cancel()
        brought = []
        for subscription, pull in list(self._under_way.items()):
            if not pull.future.cancelled() and pull.future.exception() is None:
                brought += self._messages(subscription)
        return brought

    def _ask(self, subscription: str, count: int) -> None:
        future = self._pubsub.pull(subscription, count)
        self._under_way[subscription] = Pull(future=future, count=count, asked_s=self._clock())
        future.add_done_callback(lambda _: self._answered.put(subscription))

    def _reserved(self) -> int:
        now_s = self._clock()
        return sum(pull.count for pull in self._under_way.values() if now_s - pull.asked_s < PARKED_S)

    def _messages(self, subscription: str) -> list[Received]:
        pull = self._under_way.pop(subscription)
        try:
            response = pull.future.result()
        except grpc.FutureCancelledError:
            return []
        except grpc.RpcError as error:
            meaning = error_of(error)
            if meaning.code == NOTHING:
                return []
            raise meaning from error
        if self._clock() - pull.asked_s > LEASE_S:
            # The answer waited: others may have had these messages meanwhile, and even the records of that may be gone.
            return []
        return [_received(subscription, message) for message in response.received_messages]


def _received(subscription: str, delivery: Pb) -> Received:
    message = delivery.message
    published = message.publish_time
    return Received(
        subscription=subscription,
        ack_id=delivery.ack_id,
        message_id=message.message_id,
        data=message.data,
        attributes=dict(message.attributes),
        published_s=published.seconds + published.nanos / 1e9,
    )

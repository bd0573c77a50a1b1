"""Pulls under way: at most one per subscription, asked for in the order of the settings.

A pull is never cancelled but at the end: what Pub/Sub answers at that moment would be leased to nobody.
"""

import queue
import time
from collections.abc import Callable, Mapping, Sequence

import grpc

from lowtide.bridge.leases import LEASE_S
from lowtide.bridge.messages import Received
from lowtide.bridge.pubsub import Pb, Pubsub, error_of
from lowtide.bridge.source import Pull, Source

PARKED_S = 0.25
"""A pull that waits for longer found nothing: what it asked for is not kept from subscriptions after it, so an idle
one doesn't starve them. Should both fill at the same moment, the bridge holds that much more, once.
"""

NOTHING = "DEADLINE_EXCEEDED"
"""How an emulator says that there was nothing."""


class Pulls:
    """From one thread, but for `refused` and `refused_for_s`."""

    def __init__(
        self, pubsub: Pubsub, subscriptions: Sequence[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pubsub = pubsub
        self._sources = [Source(name) for name in subscriptions]
        self._clock = clock
        self._answered: queue.SimpleQueue[Pull] = queue.SimpleQueue()

    @property
    def refused(self) -> Mapping[str, str]:
        """The subscriptions that Pub/Sub refuses to have pulled, and why."""
        return {source.name: str(refused) for source in self._sources if (refused := source.refused)}

    def refused_for_s(self) -> float:
        """So long has Pub/Sub refused all of them."""
        now_s = self._clock()
        return min(source.refused_for_s(now_s) for source in self._sources)

    def ask(self, credit: int) -> None:
        """Ask for up to `credit` messages in all, of the most urgent subscription that is not being asked already."""
        now_s = self._clock()
        left = credit - self._reserved(now_s)
        for source in self._sources:
            if left <= 0:
                return
            if source.pull is None and not source.rests(now_s):
                self._ask(source, left, now_s)
                left = 0

    def take(self, timeout_s: float) -> list[Received]:
        """What an answer brought; nothing when none came within `timeout_s`, or a failure.

        An answer that is so old that its leases may have lapsed brings nothing.
        """
        try:
            pull = self._answered.get(timeout=timeout_s)
        except queue.Empty:
            return []
        return self._messages(pull)

    def cancel(self) -> list[Received]:
        """End the pulls; returns what they brought nevertheless."""
        pulls = [source.pull for source in self._sources if source.pull]
        for pull in pulls:
            pull.future.cancel()
        return [message for pull in pulls for message in self._messages(pull)]

    def _ask(self, source: Source, count: int, now_s: float) -> None:
        future = self._pubsub.pull(source.name, count)
        source.pull = pull = Pull(source=source, future=future, count=count, asked_s=now_s)
        future.add_done_callback(lambda _: self._answered.put(pull))

    def _reserved(self, now_s: float) -> int:
        pulls = [source.pull for source in self._sources if source.pull]
        return sum(pull.count for pull in pulls if now_s - pull.asked_s < PARKED_S)

    def _messages(self, pull: Pull) -> list[Received]:
        source, now_s = pull.source, self._clock()
        source.pull = None
        try:
            deliveries = pull.future.result().received_messages
        except grpc.FutureCancelledError:
            return []
        except grpc.RpcError as error:
            meaning = error_of(error)
            if meaning.code != NOTHING:
                source.failed(meaning, now_s)
                return []
            deliveries = []
        source.answered(pull)
        if now_s - pull.asked_s > LEASE_S:
            # The answer waited: others may have had these messages meanwhile, and even the records of that may be gone.
            return []
        return [_received(source.name, delivery) for delivery in deliveries]


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

"""Pulls under way: several per subscription when credit is large, asked for in the order of the settings.

A pull is never cancelled but at the end: what Pub/Sub answers at that moment would be leased to nobody.
"""

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import grpc

from lowtide.bridge.credit import Share, share
from lowtide.bridge.held.held import LEASE_S
from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.pubsub.client import PULL_S, Pb, Pubsub, error_of
from lowtide.bridge.pubsub.subscription import Pull, PulledSubscription
from lowtide.bridge.waits import USUAL, Waits

PARKED_S = 0.25
"""A subscription whose pulls all wait for longer has nothing just now: those after it are asked, too."""

NOTHING = "DEADLINE_EXCEEDED"
"""How an emulator says that there was nothing."""
LATE_S = PULL_S + 2.0
"""A pull that ends so late without an answer: this process stood still, and may have missed it."""


class Pulls:
    """From one thread, but for `refused` and `refused_for_s`."""

    def __init__(
        self,
        pubsub: Pubsub,
        subscriptions: Sequence[str],
        *,
        waits: Waits = USUAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pubsub = pubsub
        self._sources = [PulledSubscription(name, waits) for name in subscriptions]
        self._clock = clock
        self._answered: queue.SimpleQueue[Pull] = queue.SimpleQueue()
        self._dropped_s = -float(LEASE_S)

    @property
    def may_come_again(self) -> bool:
        """True while a lease may be left of what an answer brought that was too late for us: nobody has it."""
        return self._clock() - self._dropped_s < LEASE_S

    @property
    def refused(self) -> Mapping[str, str]:
        """The subscriptions that Pub/Sub refuses to have pulled, and why."""
        return {source.name: str(refused) for source in self._sources if (refused := source.refused)}

    def refused_for_s(self) -> float:
        """So long has Pub/Sub refused all of them."""
        now_s = self._clock()
        return min(source.refused_for_s(now_s) for source in self._sources)

    def ask(self, credit: int) -> None:
        """Ask for up to `credit` messages, of the most urgent subscription, and while that has none of those after it.

        All that is asked for counts until it is taken, so that never more is under way; but for the first message of
        each other subscription: those that wait in vain would keep small credit from one that has messages.
        """
        now_s, alone = self._clock(), len(self._sources) == 1
        for source in self._sources:
            room = credit - sum(max(0, one.asked - 1) for one in self._sources if one is not source)
            if room <= 0 or source.rests(now_s):
                continue
            self._ask(source, share(room, flows=source.flows, alone=alone), now_s)
            if source.flows and now_s - source.pulls[-1].asked_s < PARKED_S:
                return

    def take(self, timeout_s: float) -> list[Received]:
        """What answers brought; nothing when none came within `timeout_s`, or failures.

        An answer that is so old that its leases may have lapsed brings nothing.
        """
        try:
            pulls = [self._answered.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        # What came meanwhile is packed with it.
        while not self._answered.empty():
            pulls.append(self._answered.get())
        return [message for pull in pulls for message in self._messages(pull)]

    def cancel(self) -> list[Received]:
        """End the pulls; returns what they brought nevertheless."""
        pulls = [pull for source in self._sources for pull in source.pulls]
        for pull in pulls:
            pull.future.cancel()
        return [message for pull in pulls for message in self._messages(pull)]

    def _ask(self, source: PulledSubscription, share: Share, now_s: float) -> None:
        while len(source.pulls) < share.pulls and (left := share.messages - source.asked) > 0:
            count = min(left, share.each)
            pull = Pull(source=source, future=self._pubsub.pull(source.name, count), count=count, asked_s=now_s)
            source.pulls.append(pull)
            pull.future.add_done_callback(partial(self._came, pull))

    def _came(self, pull: Pull, _: grpc.Future) -> None:
        pull.answered_s = self._clock()
        self._answered.put(pull)

    def _messages(self, pull: Pull) -> list[Received]:
        source, now_s = pull.source, self._clock()
        source.pulls.remove(pull)
        try:
            deliveries = pull.future.result().received_messages
        except grpc.FutureCancelledError:
            return []
        except grpc.RpcError as error:
            meaning = error_of(error)
            if meaning.code != NOTHING:
                source.failed(meaning, now_s)
                return []
            if pull.answered_s - pull.asked_s > LATE_S:
                self._dropped_s = now_s
            deliveries = []
        source.answered(pull, brought=len(deliveries) > 0)
        if now_s - pull.asked_s > LEASE_S:
            # The answer waited: others may have had these messages meanwhile, and even the records of that may be gone.
            self._dropped_s = now_s
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

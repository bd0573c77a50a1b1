"""Settle: claim, publish, record. Safety after a crash depends on this order; each method says what one costs there. A
`SilentEnding` is recorded and not published.

One thread settles, so that a crash between publish and record can publish one bulk twice, and never more.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from redis import RedisError

from lowtide.bridge.held.held import Held
from lowtide.bridge.held.leaser import Leaser
from lowtide.bridge.held.records import Claim, Records
from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import AnyEnding, Ending, SilentEnding, size_bytes
from lowtide.bridge.pubsub.client import Pubsub, PubsubRefused, PubsubUnavailable, message_of
from lowtide.bridge.waits import USUAL, Waits
from lowtide.config.process.outage import Outage
from lowtide.tasks.chunks.grouping import grouped
from lowtide.tasks.redis.trouble import told

log = logging.getLogger(__name__)

BULK = 256
BULK_MAX_BYTES = 9_991_000
"""One message at its own limit fits: see dead_letter.MESSAGE_MAX_BYTES."""
CLAIM_FRESH_S = 10.0

Some = TypeVar("Some", bound=AnyEnding)


class Settler:
    """`turn` from one thread."""

    def __init__(
        self,
        *,
        pubsub: Pubsub,
        records: Records,
        held: Held,
        leaser: Leaser,
        endings: Endings,
        waits: Waits = USUAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pubsub = pubsub
        self._records = records
        self._held = held
        self._leaser = leaser
        self._endings = endings
        self._waits = waits
        self._clock = clock
        self.ignored: Counter[str] = Counter()
        """Messages that ended in silence, by why: a word of `reasons.IGNORED`."""
        self._redis = Outage("results wait: Redis can't be used", why=told)
        self._publishing = Outage("results wait: can't publish")
        self.dead_letters = Outage(f"dead letters wait: {endings.dead_letter_topic} refuses them")

    def turn(self, timeout_s: float) -> None:
        """Settle one bulk; wait up to `timeout_s` for its first."""
        with self._held.to_settle.take(BULK, timeout_s=timeout_s) as bulk:
            if bulk:
                self._settle(bulk)

    def _settle(self, bulk: Sequence[AnyEnding]) -> None:
        claimed_s = self._clock()  # before the call: the claim counts from when Redis wrote it, at the latest from now
        claimed = self._claim(bulk)
        self._end_silently([ending for ending in claimed if isinstance(ending, SilentEnding)])
        topics = _by_topic(ending for ending in claimed if isinstance(ending, Ending))
        self._publish_all(
            [(topic, part) for topic, endings in topics.items() for part in _within_bytes(endings)], claimed_s
        )

    def _claim(self, bulk: Sequence[Some]) -> list[Some]:
        """Claim. A crash after it costs 30 s: then the claim lapses."""
        if unseen := self._held.unseen(ending.key for ending in bulk):
            self._leaser.hand_back([ending.key for ending in bulk if ending.key in unseen])
            bulk = [ending for ending in bulk if ending.key not in unseen]
        try:
            claims = self._records.claim(_keys(bulk))
        except RedisError as error:
            # Without a claim another bridge might publish the same: keep the lease and wait.
            self._redis.failed(error)
            self._held.to_settle.put(bulk, after_s=self._waits.again_s)
            return []
        self._redis.over()
        sorted_: dict[Claim, list[Some]] = {claim: [] for claim in Claim}
        for ending, claim in zip(bulk, claims, strict=True):
            sorted_[claim].append(ending)
        self._held.to_acknowledge.put(_keys(sorted_[Claim.DONE]))
        if anothers := sorted_[Claim.ANOTHERS]:
            self._leaser.hand_back(_keys(anothers), after_s=self._waits.anothers_s)
        return sorted_[Claim.OURS]

    def _end_silently(self, endings: Sequence[SilentEnding]) -> None:
        """Record alone. The record is all that is left of such a message: without it, no acknowledgement."""
        if not endings:
            return
        try:
            self._records.done(_keys(endings))
        except RedisError as error:
            self._redis.failed(error)
            self._held.to_settle.put(endings, after_s=self._waits.again_s)
            return
        for why in {ending.why for ending in endings} - self.ignored.keys():
            log.info("an event is no upload (%s): acknowledged without a result, and counted from here on", why)
        self.ignored.update(ending.why for ending in endings)
        self._held.to_acknowledge.put(_keys(endings))

    def _publish_all(self, parts: Sequence[tuple[str, Sequence[Ending]]], claimed_s: float) -> bool:
        """False when Pub/Sub or Redis is away. Then what is left is for the next turns: each part may take as long to
        find that out, and a turn that takes too long is the bridge's end. It isn't delayed: one topic alone may be ill.
        """
        for number, (topic, endings) in enumerate(parts, start=1):
            if not self._publish(topic, endings, claimed_s):
                self._held.to_settle.put(ending for _, left in parts[number:] for ending in left)
                return False
        return True

    def _publish(self, topic: str, endings: Sequence[Ending], claimed_s: float) -> bool:
        """Publish. A crash after it publishes these again: consumers deduplicate on message_id. False as above."""
        while endings and self._clock() - claimed_s > CLAIM_FRESH_S:
            claimed_s = self._clock()
            endings = self._claim(endings)
        if not endings:
            return not self._redis.on
        try:
            self._pubsub.publish(topic, [message_of(e.outgoing.data, e.outgoing.attributes) for e in endings])
        except PubsubUnavailable as error:
            self._publishing.failed(error)
            self._held.to_settle.put(endings, after_s=self._waits.again_s)
            return False
        except PubsubRefused as error:
            return self._refused(topic, endings, claimed_s, error)
        self._published(topic, endings)
        return not self._redis.on

    def _published(self, topic: str, endings: Sequence[Ending]) -> None:
        """Record. A crash after it, or before it, is seen at the next delivery: done, or published again."""
        self._publishing.over()
        if topic == self._endings.dead_letter_topic:
            self.dead_letters.over()
        try:
            self._records.done(_keys(endings))
        except RedisError as error:
            self._redis.failed(error)
        self._held.to_acknowledge.put(_keys(endings))

    def _refused(self, topic: str, endings: Sequence[Ending], claimed_s: float, error: PubsubRefused) -> bool:
        if error.code == "INVALID_ARGUMENT" and len(endings) > 1:
            # One of them is to blame: halve until it is alone.
            half = len(endings) // 2
            return self._publish_all([(topic, endings[:half]), (topic, endings[half:])], claimed_s)
        if topic == self._endings.dead_letter_topic:
            self.dead_letters.failed(error)
            self._held.to_settle.put(endings, after_s=self._waits.again_s)
        else:
            log.warning("%s refuses %d results, which become dead letters: %s", topic, len(endings), error)
            self._held.to_settle.put([self._endings.of_refused(ending, error) for ending in endings])
        return True


def _by_topic(endings: Iterable[Ending]) -> dict[str, list[Ending]]:
    topics: dict[str, list[Ending]] = defaultdict(list)
    for ending in endings:
        topics[ending.outgoing.topic].append(ending)
    return topics


def _within_bytes(endings: Sequence[Ending]) -> Iterator[list[Ending]]:
    """Parts that fit into one request each."""
    return grouped(endings, _size_bytes, max_bytes=BULK_MAX_BYTES)


def _size_bytes(ending: Ending) -> int:
    return size_bytes(ending.outgoing.data, ending.outgoing.attributes)


def _keys(endings: Iterable[AnyEnding]) -> list[str]:
    return [ending.key for ending in endings]

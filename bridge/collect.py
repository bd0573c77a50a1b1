"""Collect: learn what became of chunks, and turn outcomes into endings and further tries.

What is to be tried again goes back to Pub/Sub, which delivers it after the backoff.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.bridge.held.held import Held, SentChunk
from lowtide.bridge.held.leaser import Leaser
from lowtide.bridge.held.records import Records
from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import Failed
from lowtide.bridge.waits import USUAL, Waits
from lowtide.config.process.outage import Outage
from lowtide.tasks.chunks.dispatch import Dispatch
from lowtide.tasks.chunks.results import ChunkResult
from lowtide.tasks.redis.trouble import told
from lowtide.tasks.wire.outcome import Status

log = logging.getLogger(__name__)

RETRIES_AT_ONCE = 256


class Collector:
    """`turn` from one thread."""

    def __init__(
        self,
        *,
        dispatch: Dispatch,
        held: Held,
        records: Records,
        leaser: Leaser,
        endings: Endings,
        waits: Waits = USUAL,
    ) -> None:
        self._dispatch = dispatch
        self._held = held
        self._records = records
        self._leaser = leaser
        self._endings = endings
        self._waits = waits
        self._told_unreadable = False
        self._redis = Outage("Redis can't be used: no results", why=told)

    def turn(self, timeout_s: float) -> None:
        """Take what results there are; wait up to `timeout_s` for the first."""
        try:
            self._collect(self._dispatch.take(timeout_s))
            self._dispatch.tend()
            self._try_again()
        except (RedisError, KombuError) as error:
            self._redis.failed(error)
            time.sleep(self._waits.again_s)
        else:
            self._redis.over()

    def _collect(self, results: Iterable[ChunkResult]) -> None:
        unreadable: list[SentChunk] = []
        for result in results:
            chunk = self._held.answered(result.task_id)
            if chunk is None:
                continue
            if result.unreadable is not None:
                self._tell_unreadable(result.unreadable)
                unreadable.append(chunk)
            else:
                self._end(chunk, result)
        if unreadable:
            # Nobody's fault but a roll-out's: no attempt, and later there may be a bridge that can read it.
            self._leaser.hand_back(
                [key for chunk in unreadable for key in chunk.keys], after_s=self._waits.unreadable_s
            )

    def _tell_unreadable(self, why: str) -> None:
        if not self._told_unreadable:
            self._told_unreadable = True
            log.warning("can't read a result, is a worker of a newer release? Handing its messages back: %s", why)

    def _end(self, chunk: SentChunk, result: ChunkResult) -> None:
        # A chunk that failed as a whole may do better elsewhere.
        pairs = list(zip(chunk.items, result.outcomes_for(len(chunk.items), retry=True), strict=True))
        self._held.to_try_again.put(
            Failed(item=item, outcome=outcome) for item, outcome in pairs if outcome.status is Status.RETRY
        )
        self._held.to_settle.put(
            self._endings.of_outcome(item, outcome) for item, outcome in pairs if outcome.status is not Status.RETRY
        )

    def _try_again(self) -> None:
        with self._held.to_try_again.take(RETRIES_AT_ONCE, timeout_s=0.0) as failed:
            if not failed:
                return
            try:
                tries = self._records.count_tries(
                    [one.item.received.key for one in failed], before=[one.item.tries for one in failed]
                )
            except RedisError:
                self._held.to_try_again.put(failed, after_s=self._waits.again_s)
                raise
            self._wait_or_give_up(failed, tries)

    def _wait_or_give_up(self, failed: Sequence[Failed], tries: Sequence[int]) -> None:
        by_wait: dict[float, list[str]] = defaultdict(list)
        for one, count in zip(failed, tries, strict=True):
            if (wait_s := self._waits.backoff_s(count)) is None:
                item = replace(one.item, tries=count - 1)
                self._held.to_settle.put([self._endings.of_outcome(item, one.outcome)])
            else:
                by_wait[wait_s].append(one.item.received.key)
        # Few calls: a Pub/Sub that does not answer takes its time for each, and a turn may not last for ever.
        for wait_s, keys in by_wait.items():
            self._leaser.hand_back(keys, after_s=wait_s)

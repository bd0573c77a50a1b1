"""B4: learns what became of chunks, and turns outcomes into endings and further tries.

Comes in: results of our chunks. Goes out: endings to the settler; retries go back to Pub/Sub as a timer.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.bridge.chunk import to_chunk
from lowtide.bridge.endings import Endings
from lowtide.bridge.flight import Flight, InFlight
from lowtide.bridge.leaser import Leaser
from lowtide.bridge.messages import Translated
from lowtide.bridge.records import Records
from lowtide.bridge.retry import backoff_s
from lowtide.bridge.settle import Settler
from lowtide.bridge.waiting import Waiting
from lowtide.tasks.chunks import ChunkResult, ChunkResults, ChunkSender
from lowtide.tasks.outage import Outage
from lowtide.tasks.wire import Outcome, Status

log = logging.getLogger(__name__)

AGAIN_S = 1.0
RETRIES_AT_ONCE = 256
UNREADABLE_AGAIN_S = 60.0
"""The work will be done anew: often enough that a roll-out isn't held up, seldom enough to cost little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A request whose outcome another try may cure."""

    item: Translated
    outcome: Outcome
    task_id: str


class Collector:
    """`turn` from one thread; its length may be asked from any."""

    def __init__(
        self,
        *,
        results: ChunkResults,
        sender: ChunkSender,
        in_flight: InFlight,
        records: Records,
        leaser: Leaser,
        settler: Settler,
        endings: Endings,
    ) -> None:
        self._results = results
        self._sender = sender
        self._in_flight = in_flight
        self._records = records
        self._leaser = leaser
        self._settler = settler
        self._endings = endings
        self._retries: Waiting[Failed] = Waiting()
        self._send_again = False
        self._without_content: set[str] = set()
        self._told_unreadable = False
        self._redis = Outage("Redis can't be used: no results")
        self.ready = False
        """Redis' epoch is known, so that a change will be noticed: only then may chunks be sent."""

    def __len__(self) -> int:
        return len(self._retries)

    def turn(self, timeout_s: float) -> None:
        """Take what results there are; wait up to `timeout_s` for the first."""
        try:
            results = self._results.take(timeout_s)
            self.ready = True
            self._send_again |= self._results.forgot()
            self._land(results)
            self._send_forgotten()
            self._send_content()
            self._retry()
        except (RedisError, KombuError) as error:
            self._redis.failed(error)
            time.sleep(AGAIN_S)
        else:
            self._redis.over()

    def _land(self, results: Iterable[ChunkResult]) -> None:
        unreadable: list[Flight] = []
        for result in results:
            if result.lost_content:
                self._without_content.add(result.task_id)
                continue
            flight = self._in_flight.land(result.task_id)
            if flight is None:
                continue
            if result.unreadable is not None:
                self._tell_unreadable(result.unreadable)
                unreadable.append(flight)
            else:
                # A chunk that failed as a whole may do better elsewhere.
                self._end(result.task_id, flight.items, result.outcomes_for(len(flight.items), retry=True))
        if unreadable:
            self._hand_back(unreadable)

    def _tell_unreadable(self, why: str) -> None:
        if not self._told_unreadable:
            self._told_unreadable = True
            log.warning("can't read a result, is a worker of a newer release? Handing its messages back: %s", why)

    def _hand_back(self, flights: Sequence[Flight]) -> None:
        """Nobody's fault but a roll-out's: no attempt, and later there may be a bridge that can read it."""
        keys = [item.received.key for flight in flights for item in flight.items]
        self._leaser.hand_back(keys, after_s=UNREADABLE_AGAIN_S)
        self._forget([flight.task_id for flight in flights for _ in flight.items])

    def _end(self, task_id: str, items: Sequence[Translated], outcomes: Sequence[Outcome]) -> None:
        pairs = list(zip(items, outcomes, strict=True))
        self._retries.put(
            Failed(item=item, outcome=outcome, task_id=task_id)
            for item, outcome in pairs
            if outcome.status is Status.RETRY
        )
        self._settler.put(
            self._endings.of_outcome(item, outcome, task_id=task_id)
            for item, outcome in pairs
            if outcome.status is not Status.RETRY
        )

    def _send_forgotten(self) -> None:
        """Redis lost its data: what has no result yet goes again, under the same ids."""
        if not self._send_again:
            return
        flights = self._in_flight.older_than(0.0)
        if flights:
            log.warning("Redis lost its data: sending %d chunks again", len(flights))
            self._sender.send([to_chunk(flight.task_id, flight.items) for flight in flights], again=True)
        self._send_again = False

    def _send_content(self) -> None:
        """What came to a worker without its content goes again, with it within: that can't be lost by itself."""
        flights = [flight for task_id in self._without_content if (flight := self._in_flight.get(task_id))]
        if flights:
            log.warning("Redis lost the content of %d chunks: sending them again", len(flights))
            chunks = [to_chunk(flight.task_id, flight.items) for flight in flights]
            self._sender.send(chunks, again=True, within_task=True)
            self._results.expect_again(flight.task_id for flight in flights)
        self._without_content.clear()

    def _retry(self) -> None:
        with self._retries.take(RETRIES_AT_ONCE, timeout_s=0.0) as failed:
            if not failed:
                return
            try:
                tries = self._records.count_tries(
                    [one.item.received.key for one in failed], before=[one.item.tries for one in failed]
                )
            except RedisError:
                self._retries.put(failed, after_s=AGAIN_S)
                raise
            by_wait: dict[float, list[Failed]] = defaultdict(list)
            for one, count in zip(failed, tries, strict=True):
                if (wait_s := backoff_s(count)) is None:
                    self._give_up(one, count)
                else:
                    by_wait[wait_s].append(one)
            # Few calls: a Pub/Sub that does not answer takes its time for each, and a turn may not last for ever.
            for wait_s, group in by_wait.items():
                self._leaser.hand_back([one.item.received.key for one in group], after_s=wait_s)
                self._forget([one.task_id for one in group])

    def _give_up(self, failed: Failed, count: int) -> None:
        item = replace(failed.item, tries=count - 1)
        self._settler.put([self._endings.of_outcome(item, failed.outcome, task_id=failed.task_id)])

    def _forget(self, task_ids: Sequence[str]) -> None:
        """Messages of these chunks need their results no longer."""
        self._records.forget(self._in_flight.settled(task_ids))

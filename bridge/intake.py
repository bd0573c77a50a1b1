"""B1 to B3: pull on credit, look up, translate, chunk, enqueue.

Comes in: messages. Goes out: chunks to Redis, and endings of what is no request to the settler. A message that was
pulled stays with this thread until Redis took it: what can't go on waits here, and nothing more is pulled meanwhile.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.bridge.acker import Acker
from lowtide.bridge.chunk import chunks_of, to_chunk
from lowtide.bridge.collect import Collector
from lowtide.bridge.credit import content_room_bytes, credit_chunks, credit_messages
from lowtide.bridge.endings import Endings
from lowtide.bridge.flight import InFlight
from lowtide.bridge.gauge import Gauge
from lowtide.bridge.leaser import Leaser
from lowtide.bridge.leases import Leases
from lowtide.bridge.messages import Ending, Ignored, Received, Rejection, Settled, SilentEnding, Translated
from lowtide.bridge.pulls import Pulls
from lowtide.bridge.records import Claim, Record, Records
from lowtide.bridge.settle import ANOTHERS_S, Settler
from lowtide.bridge.sizes import Sizes
from lowtide.bridge.translate import Rules, translate
from lowtide.tasks.chunks import Chunk, ChunkResults, ChunkSender, new_task_id
from lowtide.tasks.outage import Outage

log = logging.getLogger(__name__)

HOLD_MAX_BYTES = 256 * 1024 * 1024
"""In memory: of messages, read, and of results that wait to be published. The results of what is with workers when
publishing begins to hang come on top.
"""
SETTLING_MAX = 2048
"""Endings that wait to be published, or messages to be acknowledged. More only come when Pub/Sub is slow, and then more
pulling doesn't help.
"""
AGAIN_S = 1.0
CREDIT_LOOK_S = 0.02
"""How soon freed credit is seen: a fifth of a chunk's run time."""
IDLE_LOOK_S = 0.25


class Intake:
    """`turn` from one thread; `stopped` cuts its waits short."""

    def __init__(
        self,
        *,
        pulls: Pulls,
        leases: Leases,
        leaser: Leaser,
        records: Records,
        gauge: Gauge,
        in_flight: InFlight,
        sender: ChunkSender,
        results: ChunkResults,
        settler: Settler,
        acker: Acker,
        endings: Endings,
        collector: Collector,
        rules: Rules,
        owner: str,
        stopped: threading.Event,
    ) -> None:
        self._pulls = pulls
        self._leases = leases
        self._leaser = leaser
        self._records = records
        self._gauge = gauge
        self._in_flight = in_flight
        self._sender = sender
        self._results = results
        self._settler = settler
        self._acker = acker
        self._endings = endings
        self._collector = collector
        self._rules = rules
        self._owner = owner
        self._stopped = stopped
        self._arrived: list[Received] = []
        self._unsent: list[Chunk] = []
        self._uncertain = False
        self._sizes = Sizes(rules.models)
        self._redis = Outage("Redis can't be used: not pulling")

    def turn(self) -> None:
        """One step: what waits first, else pull."""
        try:
            if self._unsent:
                self._send()
            elif self._arrived:
                self._process()
            else:
                self._pull()
        except (RedisError, KombuError) as error:
            self._redis.failed(error)
            self._stopped.wait(AGAIN_S)

    def close(self) -> None:
        """Pull no more. What is held is handed back by whoever knows everything that is."""
        self._leases.add(self._pulls.cancel())

    def _pull(self) -> None:
        """B1. Also without credit, or without Redis: a pull that was asked for before may be answered now."""
        credit = self._credit()
        self._pulls.ask(credit)
        arrived = self._pulls.take(CREDIT_LOOK_S if self._gauge.workers and not credit else IDLE_LOOK_S)
        self._arrived = self._with_room(self._leases.add(arrived))
        if self._arrived:
            self._process()

    def _with_room(self, arrived: list[Received]) -> list[Received]:
        """All of them, unless they were packed so that they are too much together; then what fits, and one at least."""
        over, kept = self._leases.held_bytes - HOLD_MAX_BYTES, len(arrived)
        while over > 0 and kept > 1:
            kept -= 1
            over -= arrived[kept].size_bytes
        if kept < len(arrived):
            self._leaser.hand_back([message.key for message in arrived[kept:]], after_s=AGAIN_S)
        return arrived[:kept]

    def _credit(self) -> int:
        try:
            fleet = self._gauge.read()
        except RedisError as error:
            self._redis.failed(error)
            return 0
        self._redis.over()
        if not self._collector.ready or self._settler.dead_letters.on:
            return 0
        if max(len(self._settler), len(self._acker)) > SETTLING_MAX:
            return 0
        room_bytes = content_room_bytes(fleet, outstanding_bytes=self._in_flight.content_bytes)
        held_bytes = self._leases.held_bytes + self._settler.held_bytes
        return credit_messages(
            credit_chunks(fleet, held=len(self._in_flight)),
            chunk_requests=self._sizes.chunk_requests(self._gauge.packing),
            message_bytes=self._sizes.message_bytes,
            free_bytes=min(HOLD_MAX_BYTES - held_bytes, room_bytes),
        )

    def _process(self) -> None:
        """B2, then B3."""
        records = self._records.look_up([message.key for message in self._arrived])
        arrived, self._arrived = list(zip(self._arrived, records, strict=True)), []
        self._pass_by(arrived)
        items = self._requests((message, record) for message, record in arrived if _is_open(record))
        packing = self._gauge.packing
        self._sizes.saw(items, packing)
        self._unsent = [chunk for group in chunks_of(items, packing) for chunk in self._launch(group)]
        if self._unsent:
            self._send()

    def _pass_by(self, arrived: Sequence[tuple[Received, Record]]) -> None:
        """Messages that are done, or that another bridge is about to publish."""
        done = [message.key for message, record in arrived if record.claim is Claim.DONE]
        anothers = [message.key for message, record in arrived if record.claim is Claim.ANOTHERS]
        self._acker.put(Settled(key=key) for key in done)
        if anothers:
            self._leaser.hand_back(anothers, after_s=ANOTHERS_S)

    def _requests(self, arrived: Iterable[tuple[Received, Record]]) -> list[Translated]:
        """The requests among messages; the settler gets what is none, and what has expired."""
        read = [self._read(message, record) for message, record in arrived]
        self._settler.put(one for one in read if not isinstance(one, Translated))
        return [one for one in read if isinstance(one, Translated)]

    def _read(self, message: Received, record: Record) -> Translated | Ending | SilentEnding:
        try:
            item = translate(message, self._rules)
            if isinstance(item, Rejection):
                return self._endings.of_rejection(message, item, tries=record.tries)
            if isinstance(item, Ignored):
                return SilentEnding(received=message, why=item.why)
            item = replace(item, tries=record.tries) if record.tries else item
            return self._endings.of_expired(item) if item.request.expired() else item
        except Exception as error:  # noqa: BLE001 (it would end each bridge that gets the message, one after another)
            return self._mistake(message, error, tries=record.tries)

    def _launch(self, group: Sequence[Translated]) -> list[Chunk]:
        """The group as one chunk, as a rule."""
        try:
            chunk = to_chunk(new_task_id(self._owner), group)
        except Exception as error:  # noqa: BLE001 (as above)
            # One of them is to blame: halve until it is alone.
            if half := len(group) // 2:
                return self._launch(group[:half]) + self._launch(group[half:])
            self._settler.put([self._mistake(group[0].received, error, tries=group[0].tries)])
            return []
        self._in_flight.launch(chunk.task_id, group)
        self._results.watch(chunk.task_id)
        return [chunk]

    def _mistake(self, message: Received, error: Exception, *, tries: int) -> Ending:
        log.error("message %s becomes a dead letter: we fail on it", message.key, exc_info=error)
        return self._endings.of_mistake(message, error, tries=tries)

    def _send(self) -> None:
        """B3. Unconfirmed, each chunk may be there or not: the same ids again, until Redis confirms."""
        again, self._uncertain = self._uncertain, True
        self._sender.send(self._unsent, again=again)
        self._unsent, self._uncertain = [], False


def _is_open(record: Record) -> bool:
    """Nobody settles it. A claim of ours is of a time before we gave the message up."""
    return record.claim in (None, Claim.OURS)

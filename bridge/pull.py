"""Pull: on credit; then look up, translate, chunk, enqueue. A message that is no request gets an ending, to be settled.

While something waits for Redis, nothing more is pulled.
"""

import logging
import time
from collections.abc import Iterable, Sequence

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.bridge.fleet import FleetReader
from lowtide.bridge.flow_control import HOLD_MAX_BYTES, FlowControl
from lowtide.bridge.held.held import Held
from lowtide.bridge.held.leaser import Leaser
from lowtide.bridge.held.records import Claim, Record, Records
from lowtide.bridge.messages.chunk import chunks_of, to_chunk
from lowtide.bridge.messages.kinds import Received, Translated
from lowtide.bridge.messages.reader import Reader
from lowtide.bridge.pubsub.pulls import Pulls
from lowtide.bridge.waits import USUAL, Waits
from lowtide.config.process.outage import Outage
from lowtide.tasks.chunks.dispatch import Dispatch
from lowtide.tasks.chunks.sending import Chunk
from lowtide.tasks.redis.trouble import told

log = logging.getLogger(__name__)

REST_S = 0.1
PULLED_MAX = 10_000
"""Far more than one answer of Pub/Sub brings."""


class Puller:
    """`turn` from one thread."""

    def __init__(
        self,
        *,
        pulls: Pulls,
        held: Held,
        leaser: Leaser,
        records: Records,
        reader: Reader,
        dispatch: Dispatch,
        fleet: FleetReader,
        flow: FlowControl,
        waits: Waits = USUAL,
    ) -> None:
        self._pulls = pulls
        self._held = held
        self._leaser = leaser
        self._records = records
        self._reader = reader
        self._dispatch = dispatch
        self._fleet = fleet
        self._flow = flow
        self._waits = waits
        self._again_at_s = 0.0
        self._redis = Outage("Redis can't be used: not pulling", why=told)

    def turn(self) -> None:
        """One step: what waits first, else pull. Short, so that a stop is seen."""
        if (rest_s := self._again_at_s - time.monotonic()) > 0:
            time.sleep(min(rest_s, REST_S))
            return
        try:
            if self._dispatch.behind:
                self._dispatch.send_again()
            elif self._held.pulled:
                self._process()
            else:
                self._pull()
        except (RedisError, KombuError) as error:
            self._redis.failed(error)
            self._again_at_s = time.monotonic() + self._waits.again_s

    def close(self) -> None:
        """Pull no more. What is held is handed back by whoever knows everything that is."""
        self._held.add(self._pulls.cancel())

    def _pull(self) -> None:
        """Also without credit, or without Redis: a pull that was asked for before may be answered now."""
        credit = self._credit()
        self._pulls.ask(credit)
        freed_soon = self._fleet.workers and not credit
        arrived = self._pulls.take(self._waits.credit_look_s if freed_soon else self._waits.idle_look_s)
        self._held.pulled.put(self._with_room(self._held.add(arrived)))
        self._process()

    def _with_room(self, arrived: list[Received]) -> list[Received]:
        """All of them, unless they were packed so that they are too much together; then what fits, and one at least."""
        over, kept = self._held.message_bytes - HOLD_MAX_BYTES, len(arrived)
        while over > 0 and kept > 1:
            kept -= 1
            over -= arrived[kept].size_bytes
        if kept < len(arrived):
            self._leaser.hand_back([message.key for message in arrived[kept:]], after_s=self._waits.again_s)
        return arrived[:kept]

    def _credit(self) -> int:
        try:
            credit = self._flow.credit()
        except RedisError as error:
            self._redis.failed(error)
            return 0
        self._redis.over()
        return credit

    def _process(self) -> None:
        """Look up, translate, chunk, enqueue."""
        with self._held.pulled.take(PULLED_MAX, timeout_s=0.0) as arrived:
            if not arrived:
                return
            try:
                records = self._records.look_up([message.key for message in arrived])
            except RedisError:
                self._held.pulled.put(arrived)
                raise
            looked_up = list(zip(arrived, records, strict=True))
            self._pass_by(looked_up)
            self._send(self._requests((message, record) for message, record in looked_up if _is_open(record)))

    def _pass_by(self, looked_up: Sequence[tuple[Received, Record]]) -> None:
        """Messages that are done, or that another bridge is about to publish."""
        self._held.to_acknowledge.put(message.key for message, record in looked_up if record.claim is Claim.DONE)
        anothers = [message.key for message, record in looked_up if record.claim is Claim.ANOTHERS]
        if anothers:
            self._leaser.hand_back(anothers, after_s=self._waits.anothers_s)

    def _requests(self, looked_up: Iterable[tuple[Received, Record]]) -> list[Translated]:
        """The requests among messages; what is none, and what has expired, is to be settled."""
        read = [self._reader.read(message, tries=record.tries) for message, record in looked_up]
        self._held.to_settle.put(one for one in read if not isinstance(one, Translated))
        return [one for one in read if isinstance(one, Translated)]

    def _send(self, items: Sequence[Translated]) -> None:
        packing = self._fleet.packing
        self._flow.saw(items)
        if chunks := [chunk for group in chunks_of(items, packing) for chunk in self._made(group)]:
            self._dispatch.send(chunks)

    def _made(self, group: Sequence[Translated]) -> list[Chunk]:
        """The group as one chunk, as a rule."""
        try:
            chunk = to_chunk(self._dispatch.new_task_id(), group)
        except Exception as error:  # noqa: BLE001 (it would end each bridge that gets the message, one after another)
            # One of them is to blame: halve until it is alone.
            if half := len(group) // 2:
                return self._made(group[:half]) + self._made(group[half:])
            self._held.to_settle.put([self._reader.mistake(group[0].received, error, tries=group[0].tries)])
            return []
        self._held.sent(chunk.task_id, group)
        return [chunk]


def _is_open(record: Record) -> bool:
    """Nobody settles it. A claim of ours is of a time before we gave the message up."""
    return record.claim in (None, Claim.OURS)

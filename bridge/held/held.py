"""`Held`: the state of each message from its pull until it is acknowledged or handed back.

It has each message's lease and chunk, and a queue before each step: messages that were pulled, requests to be tried
again, endings to be settled, messages to be acknowledged. A message is in one of them, or in a chunk that was sent.
One more has chunks whose messages are all released, and whose results and content are to be deleted.

| who | changes |
|---|---|
| `Puller` | adds messages, takes `pulled`, notes what was sent; fills `to_settle` and `to_acknowledge` |
| `Collector` | notes what was answered, takes `to_try_again`; fills that and `to_settle` |
| `Settler` | takes `to_settle`; fills that and `to_acknowledge` |
| `Acknowledger` | takes `to_acknowledge`, releases messages; takes `to_delete` |
| `Leaser` | notes renewals, releases what is handed back, for any of them |
| `RecordWatch` | notes when a record was looked at |

A bridge that is killed loses all of it, and nothing else: leases lapse within 30 s, Pub/Sub delivers the messages
again, and whoever gets them finds in their records what was done. Chunks that it sent run for nobody; the sweeper
deletes their content.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from lowtide.bridge.held.queue import Queue
from lowtide.bridge.messages.chunk import to_chunk
from lowtide.bridge.messages.kinds import AnyEnding, Failed, Received, SilentEnding, Translated
from lowtide.tasks.chunks.sending import Chunk
from lowtide.tasks.queues import topic_queue

LEASE_S = 30
LOOK_VALID_S = 540.0
"""A minute less than a record lives at the least (records.END_ACKED_S): what was made after a look is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The latest delivery of a message, and what may have happened to it elsewhere. Times are monotonic.

    `renewed_s`: the lease is ours for at least `LEASE_S` after this. `lapsed`: it was lost since the pull, or may have
    been. `looked_s`: when its record was looked at last; of an ending that was published before that, there still is
    one. `task_id`: the chunk that it travels in.
    """

    subscription: str
    ack_id: str
    renewed_s: float
    looked_s: float
    size_bytes: int
    lapsed: bool = False
    task_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentChunk:
    """A chunk that has no result yet. `sent_s`: monotonic."""

    task_id: str
    items: tuple[Translated, ...]
    sent_s: float

    @property
    def keys(self) -> list[str]:
        """Those of its messages."""
        return [item.received.key for item in self.items]

    @property
    def content_bytes(self) -> int:
        """How much."""
        return sum(item.request.inline_bytes for item in self.items)


@dataclass(slots=True)
class AnsweredChunk:
    """What is left of a chunk that has its result, or is given up. `messages_left`: those that are not released yet."""

    messages_left: int
    content_bytes: int


class Held:
    """Safe to use from any thread; each queue is taken from by one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._bytes = 0
        self._sent: dict[str, SentChunk] = {}
        self._answered: dict[str, AnsweredChunk] = {}
        self._requests = 0
        self._content_bytes = 0
        self.pulled: Queue[Received] = Queue(clock)
        self.to_try_again: Queue[Failed] = Queue(clock)
        self.to_settle: Queue[AnyEnding] = Queue(clock, weigh=_own_bytes)
        self.to_acknowledge: Queue[str] = Queue(clock)
        self.to_delete: Queue[str] = Queue(clock)

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def message_bytes(self) -> int:
        """In memory, of messages."""
        return self._bytes

    @property
    def bytes(self) -> int:
        """In memory, of messages and of outgoing ones that wait to be published."""
        return self._bytes + self.to_settle.weight

    @property
    def chunks_sent(self) -> int:
        """Chunks that have no result yet."""
        return len(self._sent)

    @property
    def requests(self) -> int:
        """Requests in Redis that are ours."""
        return self._requests

    @property
    def content_bytes(self) -> int:
        """Bytes of content in Redis that are ours: until their chunk is done with."""
        return self._content_bytes

    def keys(self) -> list[str]:
        """Those of all messages."""
        with self._lock:
            return list(self._leases)

    # ---- messages come and go

    def add(self, messages: Iterable[Received]) -> list[Received]:
        """Hold messages; returns those that are new. Another delivery of one that is held only brings a fresher ack
        id: its lease was lost, but we are at it.
        """
        now_s = self._clock()
        with self._lock:
            return [message for message in messages if self._add(message, now_s)]

    def release(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Hold these no longer: they are acknowledged, or handed back. Returns subscription → their ack ids."""
        ids: dict[str, list[str]] = defaultdict(list)
        with self._lock:
            for key in keys:
                if lease := self._leases.pop(key, None):
                    self._bytes -= lease.size_bytes
                    ids[lease.subscription].append(lease.ack_id)
                    if lease.task_id and self._is_last_of(lease.task_id):
                        self.to_delete.put([lease.task_id])
        return ids

    # ---- leases

    def ack_ids(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Subscription → current ack ids of those that are held."""
        ids: dict[str, list[str]] = defaultdict(list)
        with self._lock:
            for key in keys:
                if lease := self._leases.get(key):
                    ids[lease.subscription].append(lease.ack_id)
        return ids

    def due(self, age_s: float) -> dict[str, list[str]]:
        """Subscription → keys whose lease is older than `age_s`."""
        now_s = self._clock()
        keys: dict[str, list[str]] = defaultdict(list)
        with self._lock:
            for key, lease in self._leases.items():
                if now_s - lease.renewed_s >= age_s:
                    keys[lease.subscription].append(key)
        return keys

    def renewed(self, keys: Sequence[str], asked_s: float) -> int:
        """Pub/Sub confirmed a renewal asked for at `asked_s`; returns how many may have been lost before that."""
        late = 0
        with self._lock:
            for key in keys:
                if lease := self._leases.get(key):
                    lapsed = asked_s - lease.renewed_s > LEASE_S
                    late += lapsed
                    self._leases[key] = replace(
                        lease, renewed_s=max(asked_s, lease.renewed_s), lapsed=lease.lapsed or lapsed
                    )
        return late

    def surely_ours(self, keys: Iterable[str]) -> list[str]:
        """Those whose lease never lapsed: nobody else has got them from Pub/Sub, and an ack now is in time."""
        now_s = self._clock()
        with self._lock:
            held = [(key, lease) for key in keys if (lease := self._leases.get(key))]
        return [key for key, lease in held if not lease.lapsed and now_s - lease.renewed_s <= LEASE_S]

    def looked(self, keys: Iterable[str], asked_s: float) -> None:
        """Their records were looked at, at `asked_s` or later. A look that comes too late proves nothing."""
        with self._lock:
            for key in keys:
                lease = self._leases.get(key)
                if lease and asked_s - lease.looked_s <= LOOK_VALID_S:
                    self._leases[key] = replace(lease, looked_s=asked_s)

    def unseen(self, keys: Iterable[str]) -> set[str]:
        """Those that another bridge may have published, and whose record may have expired since: too long ago was
        the last look.
        """
        now_s = self._clock()
        with self._lock:
            held = [(key, lease) for key in keys if (lease := self._leases.get(key))]
        return {key for key, lease in held if now_s - lease.looked_s > LOOK_VALID_S}

    # ---- chunks

    def sent(self, task_id: str, items: Sequence[Translated]) -> None:
        """A chunk is about to be sent."""
        chunk = SentChunk(task_id=task_id, items=tuple(items), sent_s=self._clock())
        with self._lock:
            self._sent[task_id] = chunk
            self._requests += len(items)
            self._content_bytes += chunk.content_bytes
            for key in chunk.keys:
                if lease := self._leases.get(key):
                    self._leases[key] = replace(lease, task_id=task_id)

    def answered(self, task_id: str) -> SentChunk | None:
        """A chunk's result came, or it is given up; None when it was not waited for."""
        with self._lock:
            chunk = self._sent.pop(task_id, None)
            if chunk is not None:
                self._requests -= len(chunk.items)
                leases = [lease for key in chunk.keys if (lease := self._leases.get(key))]
                if messages_left := sum(lease.task_id == task_id for lease in leases):
                    self._answered[task_id] = AnsweredChunk(messages_left, chunk.content_bytes)
                else:
                    self._content_bytes -= chunk.content_bytes
            return chunk

    def chunks(self, *, age_s: float = 0.0) -> list[SentChunk]:
        """Those that have had no result for so long."""
        now_s = self._clock()
        with self._lock:
            return [chunk for chunk in self._sent.values() if now_s - chunk.sent_s >= age_s]

    # ---- chunks that have no result yet, as `Dispatch` asks for them

    def waits_for(self, task_id: str) -> bool:
        """True while it has no result."""
        return task_id in self._sent

    def chunk_of(self, task_id: str) -> Chunk | None:
        """As it is sent. Built from its messages: kept, it would take as much memory again."""
        chunk = self._sent.get(task_id)
        return to_chunk(task_id, chunk.items) if chunk else None

    def task_ids(self) -> list[str]:
        """Of all."""
        return [chunk.task_id for chunk in self.chunks()]

    def queues(self, *, age_s: float) -> dict[str, str]:
        """Where those are that were sent so long ago."""
        return {chunk.task_id: topic_queue(chunk.items[0].request.model) for chunk in self.chunks(age_s=age_s)}

    def with_content(self) -> list[str]:
        """Of those that have content."""
        return [chunk.task_id for chunk in self.chunks() if any(item.request.uri is None for item in chunk.items)]

    def _add(self, message: Received, now_s: float) -> bool:
        before = self._leases.get(message.key)
        size = before.size_bytes if before else message.size_bytes
        self._leases[message.key] = Lease(
            subscription=message.subscription,
            ack_id=message.ack_id,
            renewed_s=now_s,
            looked_s=before.looked_s if before else now_s,
            size_bytes=size,
            lapsed=before is not None,
            task_id=before.task_id if before else None,
        )
        self._bytes += 0 if before else size
        return before is None

    def _is_last_of(self, task_id: str) -> bool:
        answered = self._answered.get(task_id)
        if answered is None:
            return False
        answered.messages_left -= 1
        if answered.messages_left == 0:
            del self._answered[task_id]
            self._content_bytes -= answered.content_bytes
        return answered.messages_left == 0


def _own_bytes(ending: AnyEnding) -> int:
    """A dead letter's data is its message's own."""
    if isinstance(ending, SilentEnding):
        return 0
    return 0 if ending.outgoing.data is ending.received.data else len(ending.outgoing.data)

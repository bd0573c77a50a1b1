"""`Subscription`: the messages of one subscription, each ready, leased or waiting for its next delivery."""

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from lowtide.local.errors import InvalidArgument
from lowtide.local.pubsub.resources import Delivery, Message, SubscriptionConfig

TIMERS_SLACK = 1000
"""So many timers of acknowledged messages may lie about before they are swept out."""


class DeliveryPhase(Enum):
    """Where a message stands."""

    READY = "the next pull may take it"
    LEASED = "a subscriber has it until its deadline"
    DELAYED = "its retry policy keeps it back until its deadline"
    GONE = "acknowledged, expired or forwarded; whoever still points at it skips it"


@dataclass(slots=True, eq=False)
class Holder:
    """A stream's flow control: what it was sent and still has. 0: no limit."""

    max_messages: int = 0
    max_bytes: int = 0
    messages: int = 0
    bytes: int = 0

    @property
    def has_room(self) -> bool:
        """Whether it may be sent one more. The last one may exceed the bytes, so that a large one passes at all."""
        return not (0 < self.max_messages <= self.messages or 0 < self.max_bytes <= self.bytes)


@dataclass(slots=True, eq=False)
class Entry:
    """One message in one subscription."""

    message: Message
    expires_s: float
    phase: DeliveryPhase = DeliveryPhase.READY
    attempts: int = 0
    ack_id: str = ""
    deadline_s: float = 0.0
    holder: Holder | None = None


@dataclass(slots=True, kw_only=True)
class Change:
    """What an operation did besides its result."""

    woken: bool = False
    dead: list[Entry] = field(default_factory=list)


class Subscription:
    """Times are seconds on the caller's clock; nothing happens between calls."""

    def __init__(self, config: SubscriptionConfig, *, now_s: float) -> None:
        self.config = config
        self.used_s = now_s
        self.held_bytes = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # by message id, oldest first
        self._ready: deque[Entry] = deque()
        self._returned: deque[Entry] = deque()  # taken first: they have waited longest
        self._by_ack_id: dict[str, Entry] = {}
        self._timers: list[tuple[float, int, Entry]] = []
        self._ack_numbers = itertools.count(1)
        self._timer_numbers = itertools.count()

    @property
    def undelivered(self) -> int:
        """Messages that nobody has acknowledged, those that somebody holds included."""
        return len(self._entries)

    def add(self, message: Message) -> None:
        """Take a message of the topic."""
        entry = Entry(message, message.published_s + self.config.retention_s)
        self._entries[message.message_id] = entry
        self._ready.append(entry)
        self.held_bytes += message.size_bytes

    def take(
        self, max_messages: int, *, max_bytes: int, lease_s: float, now_s: float, holder: Holder | None = None
    ) -> list[Delivery]:
        """Lease what is ready: at most `max_messages`, and `max_bytes` unless the first alone is larger."""
        self.used_s = now_s
        deliveries: list[Delivery] = []
        room_bytes = max_bytes
        while (queue := self._next_queue()) and len(deliveries) < max_messages and (holder is None or holder.has_room):
            room_bytes -= queue[0].message.size_bytes
            if room_bytes < 0 and deliveries:
                break
            deliveries.append(self._lease(queue.popleft(), deadline_s=now_s + lease_s, holder=holder))
        return deliveries

    def acknowledge(self, ack_ids: Iterable[str], *, now_s: float) -> Change:
        """Forget messages. An id that was issued but is no longer current does nothing.

        Raises InvalidArgument, and does nothing, when one was never issued here.
        """
        self.used_s = now_s
        change = Change()
        for entry in self._find(ack_ids):
            change.woken |= entry.holder is not None
            self.remove(entry)
        return change

    def extend(self, ack_ids: Iterable[str], *, lease_s: float, now_s: float) -> Change:
        """Set leases to end in `lease_s`; 0 hands back at once. Expired leases stay expired. Raises InvalidArgument."""
        self.used_s = now_s
        change = Change()
        for entry in self._find(ack_ids):
            if entry.phase is not DeliveryPhase.LEASED:
                continue
            if lease_s:
                self._schedule(entry, now_s + lease_s)
            else:
                self._return(entry, now_s=now_s, change=change)
        return change

    def tick(self, *, now_s: float) -> Change:
        """Do what has become due: leases and backoffs end, old messages are dropped."""
        change = Change()
        while self._timers and self._timers[0][0] <= now_s:
            deadline_s, _, entry = heapq.heappop(self._timers)
            if deadline_s == entry.deadline_s:
                self._time_out(entry, now_s=now_s, change=change)
        while self._entries and (oldest := next(iter(self._entries.values()))).expires_s <= now_s:
            self.remove(oldest)
        self._next_queue()  # lets go of what was dropped, even where nobody pulls
        return change

    def remove(self, entry: Entry) -> None:
        """Forget a message: acknowledged, too old, or forwarded as a dead letter."""
        self._release(entry)
        entry.phase = DeliveryPhase.GONE
        entry.deadline_s = 0.0
        self._entries.pop(entry.message.message_id, None)
        self._by_ack_id.pop(entry.ack_id, None)
        self.held_bytes -= entry.message.size_bytes

    def reconfigure(self, config: SubscriptionConfig) -> None:
        """Go on with other settings; a new retention holds for what is kept already."""
        self.config = config
        for entry in self._entries.values():
            entry.expires_s = entry.message.published_s + config.retention_s

    def _next_queue(self) -> deque[Entry]:
        """The queue whose first entry is next, or an empty one."""
        for queue in (self._returned, self._ready):
            while queue and queue[0].phase is DeliveryPhase.GONE:
                queue.popleft()
            if queue:
                return queue
        return self._ready

    def _lease(self, entry: Entry, *, deadline_s: float, holder: Holder | None) -> Delivery:
        self._by_ack_id.pop(entry.ack_id, None)
        entry.ack_id = f"{self.config.name}:{next(self._ack_numbers)}"
        self._by_ack_id[entry.ack_id] = entry
        entry.phase = DeliveryPhase.LEASED
        entry.attempts += 1
        if holder:
            entry.holder = holder
            holder.messages += 1
            holder.bytes += entry.message.size_bytes
        self._schedule(entry, deadline_s)
        return Delivery(entry.ack_id, entry.message, entry.attempts if self.config.dead_letter else 0)

    def _schedule(self, entry: Entry, deadline_s: float) -> None:
        entry.deadline_s = deadline_s
        heapq.heappush(self._timers, (deadline_s, next(self._timer_numbers), entry))
        # An ack leaves its timer behind: without this, 600 s of them would pile up.
        if len(self._timers) > 2 * len(self._entries) + TIMERS_SLACK:
            live = [timer for timer in self._timers if timer[0] == timer[2].deadline_s]
            heapq.heapify(live)
            self._timers = live

    def _find(self, ack_ids: Iterable[str]) -> list[Entry]:
        """Entries whose ack id is the current one, each once."""
        found: dict[int, Entry] = {}
        for ack_id in ack_ids:
            entry = self._by_ack_id.get(ack_id)
            if entry is not None:
                found[id(entry)] = entry
            else:
                self._check_ack_id(ack_id)
        return list(found.values())

    def _check_ack_id(self, ack_id: str) -> None:
        name, _, number = ack_id.rpartition(":")
        if not name or not number.isdecimal():
            raise InvalidArgument(f"Invalid ack id (ack_id={ack_id[:300]})")
        if name != self.config.name:
            raise InvalidArgument(f"Ack id {ack_id[:300]} belongs to another subscription than {self.config.name}")

    def _return(self, entry: Entry, *, now_s: float, change: Change) -> None:
        """A lease ended without an ack."""
        change.woken = True
        self._release(entry)
        policy = self.config.dead_letter
        if policy and entry.attempts >= policy.max_delivery_attempts:
            change.dead.append(entry)
        if self.config.retry:
            entry.phase = DeliveryPhase.DELAYED
            self._schedule(entry, now_s + self._backoff_s(entry))
        else:
            self._make_ready(entry)

    def _backoff_s(self, entry: Entry) -> float:
        """Doubled with every failed delivery. The service says "exponential" without a formula."""
        assert self.config.retry
        doublings = min(entry.attempts - 1, 30)
        return min(self.config.retry.minimum_backoff_s * 2.0**doublings, self.config.retry.maximum_backoff_s)

    def _time_out(self, entry: Entry, *, now_s: float, change: Change) -> None:
        if entry.phase is DeliveryPhase.LEASED:
            self._return(entry, now_s=now_s, change=change)
        elif entry.phase is DeliveryPhase.DELAYED:
            change.woken = True
            self._make_ready(entry)

    def _make_ready(self, entry: Entry) -> None:
        entry.phase = DeliveryPhase.READY
        entry.deadline_s = 0.0
        self._returned.append(entry)

    def _release(self, entry: Entry) -> None:
        if entry.holder:
            entry.holder.messages -= 1
            entry.holder.bytes -= entry.message.size_bytes
            entry.holder = None

"""What this bridge holds: every message from its pull until it is acknowledged or handed back."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from lowtide.bridge.messages import Received

LEASE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The latest delivery of a message. `renewed_s`: monotonic time from which `LEASE_S` surely count."""

    subscription: str
    ack_id: str
    renewed_s: float
    size_bytes: int


class Leases:
    """Key → lease. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def held_bytes(self) -> int:
        """Bytes of data that are held."""
        return self._bytes

    def add(self, messages: Iterable[Received]) -> list[Received]:
        """Hold messages; returns those that are new. Another delivery of one that is held only brings a fresher ack
        id: its lease was lost, but we are at it.
        """
        now_s = self._clock()
        with self._lock:
            return [message for message in messages if self._add(message, now_s)]

    def release(self, keys: Iterable[str]) -> None:
        """Hold these no longer."""
        with self._lock:
            for key in keys:
                lease = self._leases.pop(key, None)
                self._bytes -= lease.size_bytes if lease else 0

    def by_subscription(self, keys: Iterable[str]) -> dict[str, list[str]]:
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
                    late += asked_s - lease.renewed_s > LEASE_S
                    self._leases[key] = replace(lease, renewed_s=max(asked_s, lease.renewed_s))
        return late

    def keys(self) -> list[str]:
        """All that is held."""
        with self._lock:
            return list(self._leases)

    def _add(self, message: Received, now_s: float) -> bool:
        before = self._leases.get(message.key)
        size = before.size_bytes if before else len(message.data)
        self._leases[message.key] = Lease(
            subscription=message.subscription, ack_id=message.ack_id, renewed_s=now_s, size_bytes=size
        )
        self._bytes += 0 if before else size
        return before is None

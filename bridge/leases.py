"""What this bridge holds: every message from its pull until it is acknowledged or handed back."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from lowtide.bridge.messages import Received

LEASE_S = 30
LOOK_VALID_S = 540.0
"""A minute less than a record lives at the least (records.END_ACKED_S): what was made after a look is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The latest delivery of a message, and what may have happened to it elsewhere. Times are monotonic.

    `renewed_s`: from here `LEASE_S` surely count. `lapsed`: at some time since the pull it was not ours, or may not
    have been. `looked_s`: nobody had published its ending by then, or the record of that is still there.
    """

    subscription: str
    ack_id: str
    renewed_s: float
    looked_s: float
    size_bytes: int
    lapsed: bool = False


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
        """Bytes of messages that are held."""
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

    def keys(self) -> list[str]:
        """All that is held."""
        with self._lock:
            return list(self._leases)

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
        )
        self._bytes += 0 if before else size
        return before is None

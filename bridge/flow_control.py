"""`FlowControl`: how many messages may be pulled now, from the fleet's capacity, what is held already, and how large
messages were of late.
"""

from collections.abc import Iterable

from lowtide.bridge.credit import content_room_bytes, credit_chunks, credit_messages
from lowtide.bridge.fleet import FleetReader
from lowtide.bridge.held.held import Held
from lowtide.bridge.messages.kinds import Translated
from lowtide.config.process.outage import Outage
from lowtide.tasks.chunks.dispatch import Dispatch
from lowtide.tasks.chunks.packing import Packing

HOLD_MAX_BYTES = 256 * 1024 * 1024
"""In memory: of messages, read, and of results that wait to be published. The results of what is with workers when
publishing begins to hang come on top.
"""
SETTLING_MAX = 2048
"""Endings that wait to be published, or messages to be acknowledged. More only come when Pub/Sub is slow, and then more
pulling doesn't help.
"""
WEIGHT = 0.05
FIRST_BYTES = 1000.0


class RecentSizes:
    """Moving averages of the size of messages, and of how many make a chunk. Not thread-safe."""

    def __init__(self, models: Iterable[str]) -> None:
        self._models = tuple(models)
        self._chunk_share: float | None = None
        self.message_bytes = FIRST_BYTES

    def saw(self, items: Iterable[Translated], packing: Packing) -> None:
        """These were pulled."""
        for item in items:
            self.message_bytes += WEIGHT * (item.received.size_bytes - self.message_bytes)
            share = 1 / packing.room_for(item.request.model)
            before = share if self._chunk_share is None else self._chunk_share
            self._chunk_share = before + WEIGHT * (share - before)

    def chunk_requests(self, packing: Packing) -> float:
        """How many requests of the recent mix make one chunk; before the first: of the slowest model."""
        if self._chunk_share is None:
            return min(packing.room_for(model) for model in self._models)
        return 1 / self._chunk_share


class FlowControl:
    """Asked from one thread. While the outage `dead_letters` is on, nothing is pulled."""

    def __init__(
        self, *, models: Iterable[str], fleet: FleetReader, held: Held, dispatch: Dispatch, dead_letters: Outage
    ) -> None:
        self._sizes = RecentSizes(models)
        self._fleet = fleet
        self._held = held
        self._dispatch = dispatch
        self._dead_letters = dead_letters

    def saw(self, items: Iterable[Translated]) -> None:
        """Requests were pulled: what comes next is taken to be like them."""
        self._sizes.saw(items, self._fleet.packing)

    def credit(self) -> int:
        """So many messages. Raises RedisError."""
        fleet, held = self._fleet.read(), self._held
        if not self._dispatch.ready or self._dead_letters.on:
            return 0
        if max(len(held.to_settle), len(held.to_acknowledge)) > SETTLING_MAX:
            return 0
        room_bytes = content_room_bytes(fleet, outstanding_bytes=held.content_bytes)
        return credit_messages(
            credit_chunks(fleet, held=held.chunks_sent),
            chunk_requests=self._sizes.chunk_requests(self._fleet.packing),
            message_bytes=self._sizes.message_bytes,
            free_bytes=min(HOLD_MAX_BYTES - held.bytes, room_bytes),
        )

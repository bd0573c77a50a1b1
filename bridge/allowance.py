"""`Allowance`: how many messages may be pulled now, from the fleet's capacity and what is held already."""

from collections.abc import Iterable

from lowtide.bridge.credit import content_room_bytes, credit_chunks, credit_messages
from lowtide.bridge.gauge import Gauge
from lowtide.bridge.held.held import Held
from lowtide.bridge.messages.kinds import Translated
from lowtide.bridge.sizes import Sizes
from lowtide.config.process.outage import Outage
from lowtide.tasks.chunks.dispatch import Dispatch

HOLD_MAX_BYTES = 256 * 1024 * 1024
"""In memory: of messages, read, and of results that wait to be published. The results of what is with workers when
publishing begins to hang come on top.
"""
SETTLING_MAX = 2048
"""Endings that wait to be published, or messages to be acknowledged. More only come when Pub/Sub is slow, and then more
pulling doesn't help.
"""


class Allowance:
    """Asked from one thread. While the outage `dead_letters` is on, nothing is pulled."""

    def __init__(self, *, gauge: Gauge, held: Held, dispatch: Dispatch, sizes: Sizes, dead_letters: Outage) -> None:
        self._gauge = gauge
        self._held = held
        self._dispatch = dispatch
        self._sizes = sizes
        self._dead_letters = dead_letters

    def saw(self, items: Iterable[Translated]) -> None:
        """Requests were pulled: what comes next is taken to be like them."""
        self._sizes.saw(items, self._gauge.packing)

    def messages(self) -> int:
        """So many. Raises RedisError."""
        fleet, held = self._gauge.read(), self._held
        if not self._dispatch.ready or self._dead_letters.on:
            return 0
        if max(len(held.to_settle), len(held.to_acknowledge)) > SETTLING_MAX:
            return 0
        room_bytes = content_room_bytes(fleet, outstanding_bytes=held.content_bytes)
        return credit_messages(
            credit_chunks(fleet, held=held.chunks_sent),
            chunk_requests=self._sizes.chunk_requests(self._gauge.packing),
            message_bytes=self._sizes.message_bytes,
            free_bytes=min(HOLD_MAX_BYTES - held.bytes, room_bytes),
        )

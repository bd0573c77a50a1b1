"""Moving averages of the size of messages, and of how many make a chunk."""

from collections.abc import Iterable

from lowtide.bridge.messages.kinds import Translated
from lowtide.tasks.chunks.packing import Packing

WEIGHT = 0.05
FIRST_BYTES = 1000.0


class Sizes:
    """Not thread-safe."""

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

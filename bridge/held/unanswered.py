"""The chunks of this bridge that have no result yet, as `Dispatch` asks for them."""

from lowtide.bridge.held.held import Held
from lowtide.bridge.messages.chunk import to_chunk
from lowtide.tasks.chunks.sending import Chunk
from lowtide.tasks.queues import topic_queue


class UnansweredChunks:
    """Built from their messages when they must be sent again: kept, they would take as much memory again."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def chunk_of(self, task_id: str) -> Chunk | None:
        """A chunk as it is sent."""
        chunk = self._held.chunk(task_id)
        return to_chunk(task_id, chunk.items) if chunk else None

    def task_ids(self) -> list[str]:
        """Of all."""
        return [chunk.task_id for chunk in self._held.chunks()]

    def queues(self, *, age_s: float) -> dict[str, str]:
        """Where those are that were sent so long ago."""
        return {chunk.task_id: topic_queue(chunk.model) for chunk in self._held.chunks(age_s=age_s)}

    def with_content(self) -> list[str]:
        """Of those that have content."""
        return [chunk.task_id for chunk in self._held.chunks() if chunk.has_content]

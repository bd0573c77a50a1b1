"""Which requests travel together. Pure: the bounds of a chunk are `lowtide.tasks.chunks.packing`'s."""

from collections.abc import Iterator, Sequence
from typing import Any

from lowtide.bridge.messages.kinds import Translated
from lowtide.tasks.chunks.packing import Packing, pack
from lowtide.tasks.chunks.sending import Chunk
from lowtide.tasks.queues import topic_queue
from lowtide.tasks.wire.request import InferenceRequest, Priority

FOR_BRIDGES_ALONE = frozenset({"reply_topic"})


def chunks_of(arrived: Sequence[Translated], packing: Packing) -> Iterator[tuple[Translated, ...]]:
    """Groups of one model, those of high priority first."""
    for urgent in (True, False):
        some = [item for item in arrived if (item.request.priority is Priority.HIGH) == urgent]
        yield from map(tuple, pack(some, request_of=_request, packing=lambda: packing))


def to_chunk(task_id: str, items: Sequence[Translated]) -> Chunk:
    """The chunk as it is sent."""
    return Chunk(
        task_id=task_id,
        queue=topic_queue(items[0].request.model),
        requests=tuple(_fields(item.request) for item in items),
        sent_at=min(item.received.published_s for item in items),
    )


def _fields(request: InferenceRequest) -> dict[str, Any]:
    return {name: value for name, value in request.to_wire(raw=True).items() if name not in FOR_BRIDGES_ALONE}


def _request(item: Translated) -> InferenceRequest:
    return item.request

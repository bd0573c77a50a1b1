"""How requests are packed into chunks. Pure."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic_core import to_jsonable_python

from lowtide.tasks.wire.request import InferenceRequest

Item = TypeVar("Item")

GUESSED_RATE_S = 0.005
"""Device seconds per request of a model that nobody measured yet: a mid-sized image model on a mid-sized GPU."""

ENVELOPE_BYTES = 512
"""What a request weighs beside its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Bounds of one chunk. `rates_s`: measured seconds of device time per request, by model."""

    max_requests: int = 256
    max_bytes: int = 4 * 1024 * 1024
    max_work_s: float = 0.1
    rates_s: Mapping[str, float] = field(default_factory=dict)

    def request_s(self, model: str) -> float:
        """Device seconds per request of `model`, a guess before it was measured."""
        return self.rates_s.get(model, GUESSED_RATE_S)

    def room_for(self, model: str) -> int:
        """Most requests of `model` in a chunk, bytes aside; at least one."""
        rate_s = self.request_s(model)
        return max(1, int(min(self.max_requests, self.max_work_s / rate_s))) if rate_s > 0 else self.max_requests


def weight_bytes(request: InferenceRequest) -> int:
    """About what the request takes on the wire."""
    texts = (request.uri, request.traceparent)
    params = len(json.dumps(to_jsonable_python(request.params))) if request.params else 0
    return ENVELOPE_BYTES + request.inline_bytes + sum(len(text or "") for text in texts) + params


def pack(
    items: Iterable[Item | None],
    *,
    request_of: Callable[[Item], InferenceRequest],
    packing: Callable[[], Packing],
) -> Iterator[list[Item]]:
    """Lists of items that travel together: one model, priority and wire version each, within the bounds, in the order
    given. `packing` is asked for each chunk: a stream outlives what was measured when it began. Inline content is not
    mixed with other: it may need newer workers, and is lost or there as a whole (`lowtide.tasks.chunks.blob`).

    An item over the byte limit travels alone. Takes from `items` no further than the chunk it yields needs. At None all
    that was given so far goes: the next item took its time.
    """
    open_chunks: dict[tuple[str, str, int, bool], tuple[list[Item], int, Packing]] = {}
    for item in items:
        if item is None:
            yield from (chunk for chunk, _, _ in open_chunks.values())
            open_chunks.clear()
            continue
        request = request_of(item)
        key = (request.model, request.priority, request.wire_version, request.uri is None)
        chunk, size, bounds = open_chunks.pop(key) if key in open_chunks else ([], 0, packing())
        weight = weight_bytes(request)
        if chunk and size + weight > bounds.max_bytes:
            yield chunk
            chunk, size, bounds = [], 0, packing()
        chunk.append(item)
        if len(chunk) >= bounds.room_for(request.model) or size + weight >= bounds.max_bytes:
            yield chunk
        else:
            open_chunks[key] = (chunk, size + weight, bounds)
    yield from (chunk for chunk, _, _ in open_chunks.values())

"""Content that is fetched before its requests may run: bytes alone, and no more than there is memory for."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.workers.engine.fetching import FETCH_THREADS

SHARE = 1 / 4
"""Of the memory for decoding. What the threads bring at the same time may come on top of it."""

Fetch = Callable[[Sequence[InferenceRequest]], Sequence[Future[bytes | Outcome]]]


def fetch_ahead(
    requests: Sequence[InferenceRequest], fetch: Fetch, *, max_bytes: float
) -> list[InferenceRequest | Outcome]:
    """Each request with its content, which `fetch` brings, or its outcome. When there are `max_bytes`, the others stay
    as they are. As many at a time as there are threads: how large content is shows once it is here. Raises
    EngineStopped.
    """
    brought: list[InferenceRequest | Outcome] = []
    size = 0
    for first in range(0, len(requests), FETCH_THREADS):
        some = requests[first : first + FETCH_THREADS]
        brought += _with_content(some, fetch) if size < max_bytes else some
        size += sum(one.inline_bytes for one in brought[first:] if isinstance(one, InferenceRequest))
    return brought


def _with_content(requests: Sequence[InferenceRequest], fetch: Fetch) -> list[InferenceRequest | Outcome]:
    found = iter(fetch([request for request in requests if request.uri is not None]))
    return [request if request.uri is None else _with(request, next(found).result()) for request in requests]


def _with(request: InferenceRequest, found: bytes | Outcome) -> InferenceRequest | Outcome:
    return found if isinstance(found, Outcome) else request.with_content(found)

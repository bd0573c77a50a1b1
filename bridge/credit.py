"""How much a bridge may pull: no more than workers get through in time. Pure."""

from dataclasses import dataclass

CHUNKS_PER_WORKER = 2
PULL_MAX = 1000
"""Most messages in one pull: what Pub/Sub gives at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Who is alive, and what already waits for workers. `waiting`: tasks in the topic queues of all models."""

    workers: int
    bridges: int
    waiting: int


def credit_chunks(fleet: Fleet, *, held: int) -> float:
    """Chunks that this bridge may still pull; `held`: those that it sent and has no result of.

    Without workers one chunk is enough to know that there is work; the rest stays where the backlog metric sees it.
    A task in a queue counts as a full chunk: when requests are thin it is less, but then workers have room as well.
    """
    if fleet.workers == 0:
        return float(max(0, 1 - max(held, fleet.waiting)))
    return max(0.0, (fleet.workers * CHUNKS_PER_WORKER - fleet.waiting) / max(1, fleet.bridges))


def credit_messages(chunks: float, *, chunk_requests: float, message_bytes: float, free_bytes: float) -> int:
    """Messages to ask for. `chunk_requests`: how many make a chunk, `message_bytes`: how large they are, of late.

    At least one while there is credit: a message larger than all room would otherwise never come.
    """
    if chunks <= 0 or free_bytes <= 0:
        return 0
    fitting = free_bytes / max(1.0, message_bytes)
    return max(1, int(min(chunks * chunk_requests, fitting, PULL_MAX)))

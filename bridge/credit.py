"""How much a bridge may pull, and in how many pulls: no more than workers get through in time. Pure."""

import math
from dataclasses import dataclass

CHUNKS_PER_WORKER = 2
PULL_MAX = 1000
"""Most messages in one pull: what Pub/Sub gives at once."""
PULL_WORTH = 100
"""Credit for which one pull is enough: workers take 200 ms for it, in which Pub/Sub answers some times over. Before a
backlog of thousands an answer brings 10 or 20 messages (googleapis/google-cloud-dotnet#5000).
"""
PULLS_MAX = 12
"""Most pulls of one subscription at a time. Google's guide asks for several, as one alone is slow
(cloud.google.com/pubsub/docs/pull): twelve brought seven times what one did (googleapis/python-pubsub#174).
"""

CONTENT_SHARE = 0.5
"""Of Redis' `maxmemory`, for content that bridges put there. The rest is for tasks, results and records, for what
callers send, and for what Redis needs to read and to write: content that arrives is there twice.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Who is alive, and what already waits for workers. `waiting`: tasks in the topic queues of all models;
    `redis_max_bytes`: the most that Redis may hold, 0 when it has no limit or doesn't tell; `others_bytes`: content
    that other bridges say they have there, or said before they vanished.
    """

    workers: int
    bridges: int
    waiting: int
    redis_max_bytes: int = 0
    others_bytes: int = 0


def credit_chunks(fleet: Fleet, *, held: int) -> float:
    """Chunks that this bridge may still pull; `held`: those that it sent and has no result of.

    Without workers one chunk is enough to know that there is work; the rest stays where the backlog metric sees it.
    A task in a queue counts as a full chunk: when requests are thin it is less, but then workers have room as well.
    """
    if fleet.workers == 0:
        return float(max(0, 1 - max(held, fleet.waiting)))
    return max(0.0, (fleet.workers * CHUNKS_PER_WORKER - fleet.waiting) / max(1, fleet.bridges))


def content_room_bytes(fleet: Fleet, *, outstanding_bytes: int) -> float:
    """How much more content this bridge may put into Redis; `outstanding_bytes`: what it has there."""
    if fleet.redis_max_bytes == 0:
        return math.inf
    all_bytes = fleet.redis_max_bytes * CONTENT_SHARE
    return min(all_bytes / max(1, fleet.bridges), all_bytes - fleet.others_bytes) - outstanding_bytes


def credit_messages(chunks: float, *, chunk_requests: float, message_bytes: float, free_bytes: float) -> int:
    """Messages to ask for. `chunk_requests`: how many make a chunk, `message_bytes`: how large they are, of late.

    At least one while there is credit: a message larger than all room would otherwise never come.
    """
    if chunks <= 0 or free_bytes <= 0:
        return 0
    fitting = free_bytes / max(1.0, message_bytes)
    return max(1, int(min(chunks * chunk_requests, fitting, PULLS_MAX * PULL_MAX)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one subscription may be asked for at a time: `messages` in all, in so many pulls."""

    messages: int
    pulls: int

    @property
    def each(self) -> int:
        """Messages of one pull."""
        return min(PULL_MAX, math.ceil(self.messages / self.pulls))


def share(room: int, *, flows: bool, alone: bool) -> Share:
    """`room`: credit that the other subscriptions leave, at least 1; `flows`: this one gave messages when it was asked
    last; `alone`: there are no others.

    Until messages flow one pull is enough: it gets what comes as one chunk, and takes no lone message from another
    bridge. Beside others it asks for one message until then, and for half of the room after that: when it has run dry,
    they have the rest.
    """
    messages = room if alone else max(1, room // 2) if flows else 1
    return Share(messages=messages, pulls=min(PULLS_MAX, max(1, messages // PULL_WORTH)) if flows else 1)

"""For a bridge's status: its oldest request, and how many will probably expire before they run. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from lowtide.bridge.held.held import SentChunk
from lowtide.tasks.chunks.packing import Packing


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """`oldest_at`: Unix time at which the oldest request was published; None without any. `at_risk`: how many have an
    `expires_at` that comes before the work ahead of them is done.
    """

    oldest_at: float | None
    at_risk: int


def lateness(chunks: Iterable[SentChunk], *, packing: Packing, workers: int, now_s: float) -> Lateness:
    """Of the chunks that are under way, in the order in which they were sent. `now_s`: Unix time.

    The fleet is taken to work them off in that order, side by side; a fleet of none as one that has a worker soon.
    """
    published_s, at_risk, ahead_s = [], 0, 0.0
    for chunk in sorted(chunks, key=lambda chunk: chunk.sent_s):
        for item in chunk.items:
            ahead_s += packing.request_s(item.request.model)
            published_s.append(item.received.published_s)
            expires_at = item.request.expires_at
            at_risk += expires_at is not None and expires_at.timestamp() < now_s + ahead_s / max(1, workers)
    return Lateness(oldest_at=min(published_s, default=None), at_risk=at_risk)

"""What a bridge tells of the requests that it holds: how old, of which models, in time or not. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lowtide.bridge.flight import Flight
from lowtide.tasks.packing import Packing


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`models`: requests of each. `oldest_at`: Unix time at which the oldest was published; None without any.
    `at_risk`: those whose `expires_at` comes before the work ahead of them is done.
    """

    models: dict[str, int]
    oldest_at: float | None
    at_risk: int


def outlook(flights: Iterable[Flight], *, packing: Packing, workers: int, now_s: float) -> Outlook:
    """Of the chunks that are under way, in the order in which they were sent. `now_s`: Unix time.

    The fleet is taken to work them off in that order, side by side; a fleet of none as one that has a worker soon.
    """
    models: Counter[str] = Counter()
    published_s, at_risk, ahead_s = [], 0, 0.0
    for flight in sorted(flights, key=lambda flight: flight.sent_s):
        for item in flight.items:
            ahead_s += packing.request_s(item.request.model)
            models[item.request.model] += 1
            published_s.append(item.received.published_s)
            expires_at = item.request.expires_at
            at_risk += expires_at is not None and expires_at.timestamp() < now_s + ahead_s / max(1, workers)
    return Outlook(models=dict(models), oldest_at=min(published_s, default=None), at_risk=at_risk)

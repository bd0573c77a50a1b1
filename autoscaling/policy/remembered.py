"""What an instance group remembers: its recommendations, found again from the signals that it has followed. Pure."""

from collections.abc import Iterable, Iterator

from lowtide.autoscaling.policy.decide import GroupState, Histories, Recommendation, decide
from lowtide.autoscaling.policy.policy import Policy

DECIDES_S = 60.0
"""How often a group decides, about; in between, at each point of a signal: of two points in a minute it may have seen
either."""
APART_S = 4.0
"""What is written to Cloud Monitoring is 5 s apart at least: what comes more often is a count of a local Pub/Sub."""


def remembered(policy: Policy, *, histories: Histories, now: float) -> tuple[Recommendation, ...]:
    """What a group under this policy has recommended by `now` (seconds since 1970), as far back as the policy looks.

    `histories` that begin earlier tell what a signal was worth when that time began. Empty without any point.
    """
    points = [point.at for series in histories.values() for one in series for point in one if point.at <= now]
    turns = int((now - min(points)) / DECIDES_S) if points else 0
    group = GroupState()
    for at in sorted({*_apart(sorted(points)), *(min(points) + DECIDES_S * turn for turn in range(1, turns + 1))}):
        group = decide(policy, histories=histories, group=group, now=at).group
    return group.recommendations


def _apart(times: Iterable[float]) -> Iterator[float]:
    last = float("-inf")
    for at in times:
        if at - last >= APART_S:
            last = at
            yield at

"""Which processes of the register have been silent for long enough. Pure: all of it is told the time."""

from collections.abc import Mapping
from dataclasses import dataclass

STEP_S = 1.0
"""By which two clocks may part between two calls: more than a slow call takes."""


class Sight:
    """Converts times of Redis' clock to this process' own. They count only for as long as Redis has answered without a
    gap of more than `gap_s`, and both clocks have gone alike.
    """

    def __init__(self, *, gap_s: float) -> None:
        self._gap_s = gap_s
        self._since_s: float | None = None
        self._seen_s = self._ahead_s = 0.0

    def saw(self, redis_s: float, now_s: float) -> None:
        """Redis answered, and this was its time."""
        ahead_s = redis_s - now_s
        gap = now_s - self._seen_s > self._gap_s or abs(ahead_s - self._ahead_s) > STEP_S
        if self._since_s is None or gap:
            self._since_s = now_s
        self._seen_s, self._ahead_s = now_s, ahead_s

    def lost(self) -> None:
        """Redis did not answer, or refused."""
        self._since_s = None

    def time_of(self, redis_s: float, now_s: float) -> float:
        """What Redis' time was by our own clock: not before it was seen, and not later than now."""
        if self._since_s is None or now_s - self._seen_s > self._gap_s:
            return now_s
        return min(max(redis_s - self._ahead_s, self._since_s), now_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry of the register, and since when it has been the same."""

    beat: float
    since_s: float


class SilenceWatch:
    """Which entries of the register have been the same for `quiet_s`."""

    def __init__(self, *, quiet_s: float, gap_s: float) -> None:
        self._quiet_s = quiet_s
        self._gap_s = gap_s
        self._seen: dict[str, Seen] = {}
        self._looked_s: float | None = None
        self._sight: Sight | None = None

    def look(self, beats: Mapping[str, float], now_s: float) -> dict[str, float]:
        """Those whose entry has not changed for `quiet_s`, with that entry; and at once those that were given up, whom
        another sweeper left.
        """
        if self.gap(now_s):
            self.restart()
        before, sight = self._seen, self._sight
        self._looked_s, self._sight = now_s, None
        self._seen = {
            name: seen
            if (seen := before.get(name)) and seen.beat == beat
            else Seen(beat, sight.time_of(beat, now_s) if sight else now_s)
            for name, beat in beats.items()
        }
        return {
            name: seen.beat
            for name, seen in self._seen.items()
            if now_s - seen.since_s >= self._quiet_s or seen.beat == 0
        }

    def gap(self, now_s: float) -> bool:
        """Whether the last look was long ago."""
        return self._looked_s is not None and now_s - self._looked_s > self._gap_s

    def restart(self) -> None:
        """Forget everything: what wasn't seen all the time wasn't seen."""
        self._seen, self._sight = {}, None

    def succeed(self, sight: Sight) -> None:
        """Begin, at the next look, with what Redis' clock says of each entry, as far as that can be relied on."""
        self._seen, self._looked_s, self._sight = {}, None, sight

"""What Flower's counters come to per second, from one reading to the next."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from lowtide.autoscaling.export.flower import FlowerFigures, FlowerTally, read_flower


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Between two readings. `runtime_s`: mean run time of the tasks that ended with success; None when none did."""

    succeeded_per_s: float
    failed_per_s: float
    runtime_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerReading:
    """One look at Flower. `pace` is None at the first: a counter tells nothing by itself."""

    figures: FlowerFigures
    pace: Pace | None


def pace(before: FlowerFigures, after: FlowerFigures, *, seconds: float) -> Pace:
    """Of two readings that lie `seconds` > 0 apart. Pure.

    Worker by worker: Flower forgets one that was silent for 60 s. The sum over all would fall, and would look as if
    everything had begun anew.
    """
    ended = [tally.since(before.tallies.get(worker, FlowerTally())) for worker, tally in after.tallies.items()]
    timed = sum(tally.timed for tally in ended)
    return Pace(
        succeeded_per_s=sum(tally.succeeded for tally in ended) / seconds,
        failed_per_s=sum(tally.failed for tally in ended) / seconds,
        runtime_s=sum(tally.run_s for tally in ended) / timed if timed else None,
    )


class FlowerReader:
    """Reads one Flower, again and again. From one thread."""

    def __init__(self, url: str, *, auth: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._auth = auth
        self._clock = clock
        self._last: tuple[FlowerFigures, float] | None = None

    def read(self) -> FlowerReading:
        """Flower now, and its pace since the last reading that succeeded. Raises SourceUnreadable."""
        figures, now_s = read_flower(self._url, auth=self._auth), self._clock()
        since, self._last = self._last, (figures, now_s)
        if since is None or now_s <= since[1]:
            return FlowerReading(figures=figures, pace=None)
        return FlowerReading(figures=figures, pace=pace(since[0], figures, seconds=now_s - since[1]))

"""`StartTimes`: how far the start of this worker got, and when. `/healthz` and one line of the log tell it."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

PROCESS = "process"
IMPORTS = "imports"
REDIS = "redis"
MODELS = "models"
READY = "ready"
WARM_UP = "warm_up_s"


def process_began_at(*, stat: Path = Path("/proc/self/stat")) -> float:
    """When this process began, Unix seconds, to a hundredth: of the kernel, since Python comes later."""
    # The name of the program, in brackets, may have blanks in it; the time is the twentieth word behind it.
    ticks = int(stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


class StartTimes:
    """Unix seconds at which the process began, and at which each step of its start ended. Made when everything is
    imported.
    """

    def __init__(
        self, *, began_at: Callable[[], float] = process_began_at, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        # Replaced, never changed: the thread of /healthz may be reading it.
        self._said: Mapping[str, float] = {PROCESS: began_at(), IMPORTS: clock()}

    def redis_answered(self) -> None:
        """Redis lets us do what a worker does, and speaks our protocol; no notice stands that this VM vanishes."""
        self._said = {**self._said, REDIS: self._clock()}

    def models_loaded(self, *, warm_up_s: float) -> None:
        """On every device; `warm_up_s` of that were their first batches."""
        self._said = {**self._said, MODELS: self._clock(), WARM_UP: warm_up_s}

    def ready(self) -> None:
        """Tasks are taken from now on."""
        self._said = {**self._said, READY: self._clock()}
        log.info("taking tasks %.1f s after this process began", self._said[READY] - self._said[PROCESS])

    def to_wire(self) -> dict[str, float]:
        """What is known so far, rounded to milliseconds."""
        return {name: round(value, 3) for name, value in self._said.items()}

"""Runs rounds of a row on one system, and says what they came to."""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.drills.callers import Callers
from tests.drills.load import Collector, Load
from tests.drills.rows import Row
from tests.drills.stage import PATIENCE_S, Stage
from tests.drills.system import System
from tests.drills.verdict import Verdict

CALLERS_FROM = 10_000_000
CALLERS_STEP = 10_000_000


class Drill:
    """Rounds on one system. `round` as often as wanted. `first`: the number of the first request, beyond those of
    other drills on this system.
    """

    def __init__(self, system: System, *, patience_s: float = PATIENCE_S, first: int = 1) -> None:
        self._system = system
        self._patience_s = patience_s
        self._numbers = itertools.count(first)
        self._callers = itertools.count(CALLERS_FROM, CALLERS_STEP)

    def round(self, name: str, row: Row, *, seed: int, faults: int) -> Verdict:
        """So many of a row's faults, under one load."""
        with self._stage(name, seed) as stage:
            stage.system.gate.deliveries = row.deliveries
            callers = self._start_callers(row) if row.callers else None
            try:
                stage.load.start(row.per_s, at_most=row.requests, deeds=row.deeds)
                for _ in range(faults):
                    row.act(stage)
                if row.requests:
                    stage.load.join()
                stage.load.stop()
                last_s = stage.wait_all()
                called: dict[str, Any] = callers.end() if callers else {}
            finally:
                stage.load.stop()
                if callers:
                    callers.kill()
            self._system.wait_ready()
            return replace(stage.verdict(last_s), **called)

    def _start_callers(self, row: Row) -> Callers:
        # Plain results that Redis forgets stay unknown for ever, as the docs say: nothing to count.
        callers = Callers(self._system, next(self._callers), self._patience_s, row.calls, delay=row.keeps_redis)
        try:
            callers.wait_ready()
        except BaseException:
            callers.kill()
            raise
        return callers

    @contextmanager
    def _stage(self, name: str, seed: int) -> Iterator[Stage]:
        collector, load = Collector(self._system.project), Load(self._system.project, self._numbers)
        try:
            collector.listen()
            yield Stage(
                system=self._system,
                random=random.Random(f"{name}:{seed}"),
                collector=collector,
                load=load,
                patience_s=self._patience_s,
            )
        finally:
            collector.close()
            load.close()


@contextmanager
def drill_on(folder: Path, row: Row, *, patience_s: float = PATIENCE_S) -> Iterator[Drill]:
    """A system as the row needs it."""
    with System(folder, row.needs) as system:
        yield Drill(system, patience_s=patience_s)

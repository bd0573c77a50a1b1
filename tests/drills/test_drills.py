"""The short form of `make drill`: the fast faults, one after the other under one load; then one piece switched off."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.drills import faults
from tests.drills.judge import complaints
from tests.drills.rows import ACK_FIRST, ROWS
from tests.drills.run import Drill
from tests.drills.stage import Stage
from tests.drills.system import Needs, System

SHORT = (
    faults.worker_and_bridge_kill,
    *(ROWS[name].act for name in ("worker-kill", "connection-cut", "redis-flush", "poison-raise", "redis-kill")),
)
"""The killed bridge's leases take 30 s to lapse: the others fill that time."""

PATIENCE_S = 120.0
"""For a slow machine; less than the 135 s in which a bridge finds a lost chunk, which others should have mended."""

pytestmark = pytest.mark.timeout(600)


def one_after_the_other(stage: Stage) -> None:
    for act in SHORT:
        act(stage)


@pytest.fixture(scope="module")
def system(emulator_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder: Path = tmp_path_factory.mktemp("drill")
    with System(folder / "system", Needs()) as system:
        yield system


def test_nothing_is_lost_and_nothing_wrongly_ended_in_one_fault_after_the_other(system: System) -> None:
    row = replace(ROWS["bridge-kill"], act=one_after_the_other, per_s=100, callers=True, keeps_redis=False)

    verdict = Drill(system, patience_s=PATIENCE_S).round("short", row, seed=0, faults=1)

    assert verdict.tries == len(SHORT)
    assert verdict.requests > 500
    # How fast they flow again is the machine's: processes have to start.
    assert complaints(row, [verdict], flow_s=PATIENCE_S) == []


def test_the_drill_reports_what_is_lost_without_the_protecting_piece(system: System) -> None:
    act = partial(faults.bridge_kill, points=("",))
    row = replace(ACK_FIRST.of(ROWS["bridge-kill"]), act=act, per_s=200)  # so that it holds something when it is killed

    system.exchange_bridges(row.needs.patches)
    verdict = Drill(system, patience_s=15, first=100_000).round("short", row, seed=0, faults=1)

    assert verdict.lost > 0
    assert any("lost" in complaint for complaint in complaints(row, [verdict]))

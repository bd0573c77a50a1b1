"""The short form of `make drill`: the fast faults, one after the other under one load, and one fleet unprotected."""

from dataclasses import replace

import pytest

from tests.drills.judge import complaints
from tests.drills.rows import REAPER, ROWS
from tests.drills.run import drill_on
from tests.drills.stage import Stage
from tests.drills.system import Needs

SHORT = ("bridge-kill", "worker-kill", "connection-cut", "redis-flush", "poison-raise", "redis-kill")
"""The first one's leases take 30 s to lapse: the others fill that time."""


def one_after_the_other(stage: Stage) -> None:
    for name in SHORT:
        ROWS[name].act(stage)


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_wrongly_ended_in_one_fault_after_the_other(emulator_here, tmp_path) -> None:
    row = replace(ROWS["bridge-kill"], act=one_after_the_other, callers=True, keeps_redis=False)

    with drill_on(tmp_path / "system", row, patience_s=90) as drill:
        verdict = drill.round("short", row, seed=0, faults=1)

    assert verdict.tries == len(SHORT)
    assert verdict.requests > 500
    assert complaints(row, [verdict]) == []


@pytest.mark.timeout(240)
def test_the_drill_reports_what_is_lost_without_the_protecting_piece(emulator_here, tmp_path) -> None:
    # More than one worker can do: it holds something whenever it is killed.
    needs = Needs(workers=1, env={"LOWTIDE_GRACE_S": "1"})
    row = REAPER.of(replace(ROWS["worker-kill"], needs=needs, per_s=400, callers=False))

    with drill_on(tmp_path / "system", row, patience_s=10) as drill:
        verdict = drill.round("short", row, seed=0, faults=1)

    assert verdict.lost > 0
    assert any("lost" in complaint for complaint in complaints(row, [verdict]))

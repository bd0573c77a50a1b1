import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lowtide.workers.start_times import StartTimes, process_began_at


def test_a_process_began_when_the_kernel_says_so() -> None:
    before = time.time()
    program = "from lowtide.workers.start_times import process_began_at; print(process_began_at())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    # The kernel counts in hundredths.
    assert before - 0.05 < float(said) < time.time()


def test_the_name_of_a_program_may_be_anything(tmp_path: Path) -> None:
    ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - 60.0) * os.sysconf("SC_CLK_TCK"))
    (tmp_path / "stat").write_text(f"7 (a) b (c) S {' '.join(['1'] * 18)} {ticks} 1 1\n")
    began_at = process_began_at(stat=tmp_path / "stat")

    assert began_at == pytest.approx(time.time() - 60.0, abs=30.0)


def test_a_start_tells_what_has_been_reached() -> None:
    times = iter([103.0, 103.5, 107.25, 108.0004])
    start = StartTimes(began_at=lambda: 100.0, clock=lambda: next(times))
    assert start.to_wire() == {"process": 100.0, "imports": 103.0}

    start.redis_answered()
    start.models_loaded(warm_up_s=0.5)
    start.ready()

    assert start.to_wire() == {
        "process": 100.0,
        "imports": 103.0,
        "redis": 103.5,
        "models": 107.25,
        "warm_up_s": 0.5,
        "ready": 108.0,
    }

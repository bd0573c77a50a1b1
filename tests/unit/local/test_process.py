import os
import signal
import subprocess
import sys
from pathlib import Path

from lowtide.local.process import ChildProcess, tied
from tests.waiting import until

TELL = "import os, sys; print(os.getpid(), sys.argv[1:])"


def test_a_tied_command_is_the_process_that_was_started_with_its_own_arguments():
    process = subprocess.Popen(tied([sys.executable, "-c", TELL, "a b", "-c"]), stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=30)

    assert out == f"{process.pid} ['a b', '-c']\n"


def test_a_command_whose_parent_is_gone_already_does_not_run():
    orphaned = ["0" if word == str(os.getpid()) else word for word in tied([sys.executable, "-c", TELL])]

    assert subprocess.run(orphaned, capture_output=True, text=True, timeout=30).stdout == ""


def test_a_tied_command_ignores_no_signal_that_it_would_not_ignore_by_itself():
    command = ["awk", "/SigIgn/ {print $2}", "/proc/self/status"]
    ignored = int(subprocess.run(tied(command), capture_output=True, text=True, timeout=30).stdout, 16)

    assert [each.name for each in (signal.SIGPIPE, signal.SIGXFSZ) if ignored & 1 << each - 1] == []


def test_what_is_retired_between_two_runs_does_not_run_again(tmp_path: Path):
    child = ChildProcess("c", [sys.executable, "-c", "print('ran')"], env={}, log_path=tmp_path / "log")
    child.start()
    until(lambda: child.restarts == 1, what="its end")
    child.retire()
    child.wait(30)

    assert (tmp_path / "log").read_text() == "ran\n"

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

from lowtide.bridge.pubsub.client import PubsubRefused
from lowtide.cli import SERVICES, STOPPED
from lowtide.cli.main import COMMANDS, MISSING, main
from lowtide.tasks.errors import LowtideError

Failing = Callable[..., Result]
"""Runs `lowtide OPTIONS… fails`, a command that raises an error."""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    def run(error: BaseException, *options: str) -> Result:
        def fail() -> None:
            raise error

        module = SimpleNamespace(command=click.Command("fails", callback=fail))
        monkeypatch.setitem(COMMANDS, "fails", "Fail.")
        monkeypatch.setitem(sys.modules, "lowtide.cli.commands.fails", module)
        return CliRunner().invoke(main, [*options, "fails"])

    return run


def test_an_error_of_ours_is_a_sentence_without_a_secret(failing: Failing) -> None:
    run = failing(LowtideError("weights https://h/w.pt?sig=hunter2 can't be read"))

    assert (run.exit_code, run.output) == (1, "Error: weights https://h/w.pt?… can't be read\n")


SHOWS = "`lowtide --debug …` shows where it comes from"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ZeroDivisionError("https://h/?sig=hunter2\n\x1b[31m"),
            f"unexpected: ZeroDivisionError: https://h/?… \\x1b[31m. {SHOWS}",
        ),
        (RuntimeError(), f"unexpected: RuntimeError. {SHOWS}"),
        (PubsubRefused("NOT_FOUND", "Topic not found: t"), f"NOT_FOUND: Topic not found: t{MISSING}"),
        (PubsubRefused("INVALID_ARGUMENT", "no"), "INVALID_ARGUMENT: no"),
        (RecursionError("deep"), f"unexpected: RecursionError: deep. {SHOWS}"),
        (PermissionError(13, "Permission denied", "a\tb"), "a       b: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ModuleNotFoundError(name="torch.nn"), 'torch.nn is not installed: pip install "lowtide[worker]"'),
    ],
)
def test_no_error_is_a_traceback(error: Exception, said: str, failing: Failing) -> None:
    run = failing(error)

    assert (run.exit_code, run.output) == (1, f"Error: {said}\n")


def test_debug_shows_where_an_error_comes_from_without_a_secret(failing: Failing) -> None:
    run = failing(ValueError("https://h/?sig=hunter2"), "--debug")

    assert run.exit_code == 1
    assert "in fail" in run.output
    assert "hunter2" not in run.output


def test_a_command_that_can_not_be_imported_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lowtide.cli.commands.flower", None)
    run = CliRunner().invoke(main, ["flower"])

    assert run.exit_code == 1
    assert run.output.startswith("Error: lowtide.cli.commands.flower is not installed")


def test_ctrl_c_is_one_word_and_the_exit_code_that_shells_have(failing: Failing) -> None:
    run = failing(KeyboardInterrupt())

    assert (run.exit_code, run.output) == (STOPPED, "Stopped\n")


def test_a_terminal_that_does_not_know_a_letter_gets_it_escaped() -> None:
    command = [sys.executable, "-m", "lowtide.cli", "classify", "é猫\x1b.png", "--model=m"]
    run = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False)

    assert (run.returncode, run.stderr) == (1, b"Error: \xe9\\u732b\\x1b.png: no such file or folder\n")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_stopped_while_it_imports_ends_well(service: str, tmp_path: Path) -> None:
    slow = "import pathlib, time; pathlib.Path(__file__).with_name('importing').touch(); time.sleep(60)"
    (tmp_path / "celery.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", "lowtide.cli", service], env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    try:
        until_s = time.monotonic() + 30
        while not (tmp_path / "importing").exists():
            assert process.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.02)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_bridge_without_a_subscription_says_that_nobody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_SUBSCRIPTION", "")
    run = CliRunner().invoke(main, ["bridge", "--create"])

    assert run.exit_code == 1
    assert "Error: LOWTIDE_SUBSCRIPTION is empty" in run.output


LATE = """
import os, signal, sys, types
import lowtide.cli

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), term=signal.SIGTERM):
        kill(pid, term)

late = Late()
sys.modules["lowtide.cli.main"] = types.SimpleNamespace(main=lambda: None)
lowtide.cli.run()
"""


@pytest.mark.parametrize("service", SERVICES)
def test_a_second_sigterm_while_python_ends_changes_nothing(service: str) -> None:
    assert subprocess.run([sys.executable, "-c", LATE, service], check=False).returncode == 0


def test_standard_streams_that_are_closed_are_empty_and_no_other_file_gets_their_number() -> None:
    numbers = "[stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)]"
    code = f"import sys, lowtide.cli.main as m; m._open_closed_streams(); sys.exit({numbers} != [0, 1, 2])"
    closed = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]

    assert subprocess.run(closed, check=False).returncode == 0

"""A Python program beside the publisher, in the same faults."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.drills.system import System
from tests.drills.verdict import Called

READY = b"ready\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """How many requests a second by `infer_many`, how many of them at least, and how many tasks a second to the stock
    application, of which there are as many fewer.
    """

    many_per_s: float = 50.0
    at_least: int = 0
    stock_per_s: float = 0.0


class Callers:
    """A Python program that calls while the faults happen."""

    def __init__(self, system: System, first: int, patience_s: float, calls: Calls, *, delay: bool) -> None:
        command = [sys.executable, "-m", "tests.drills.caller", str(first), str(patience_s)]
        command += ["--many-per-s", str(calls.many_per_s), "--at-least", str(calls.at_least)]
        command += ["--stock-per-s", str(calls.stock_per_s), *(["--delay"] if delay else [])]
        log = (system.folder / "caller.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                command, env=system.caller_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def wait_ready(self) -> None:
        """Until its first answer: a program that has never reached Redis is told so by an error."""
        assert self._process.stdout
        assert self._process.stdout.readline() == READY

    def end(self) -> dict[str, Called]:
        """No more; what became of all, by each way to call."""
        output, _ = self._process.communicate(b"")
        counts: dict[str, dict[str, Any]] = json.loads(output)
        return {kind: Called(**of) for kind, of in counts.items()}

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

"""A Python program beside the publisher, in the same faults."""

import json
import subprocess
import sys
from typing import Any

from tests.drills.system import System
from tests.drills.verdict import Called

READY = b"ready\n"


class Callers:
    """A Python program that calls while the faults happen."""

    def __init__(self, system: System, first: int, patience_s: float, *, delay: bool) -> None:
        command = [sys.executable, "-m", "tests.drills.caller", str(first), str(patience_s)]
        command += ["delay"] if delay else []
        log = (system.folder / "caller.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                command, env=system.caller_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    def wait_ready(self) -> None:
        """Until its first answer: a program that has never reached Redis is told so by an error."""
        assert self._process.stdout
        assert self._process.stdout.readline() == READY

    def end(self) -> tuple[Called, Called]:
        """No more; what became of all, by `infer_many` and by `infer.delay`."""
        output, _ = self._process.communicate(b"")
        counts: dict[str, Any] = json.loads(output)
        many, delay = (_called(counts[kind]) for kind in ("many", "delay"))
        return many, delay

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def _called(counts: dict[str, Any]) -> Called:
    return Called(
        asked=counts["asked"],
        lost=counts["asked"] - counts["answered"] - counts["wrong"],
        wrong=counts["wrong"],
        error=counts.get("error", ""),
    )

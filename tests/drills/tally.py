"""The book of rounds: one JSON object a line, so that an interrupted run goes on where it stopped."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import redis

from lowtide.local.redis import find_redis
from tests.drills.verdict import Called, Verdict

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / ".drills" / "rounds.jsonl"
MEASURED = (".", ":(exclude)docs", ":(exclude)*.md")
"""What a round depends on: a table that is written and committed does not make a new commit of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One line of the book. `broken`: the patch that switched a piece off, "" as a rule."""

    commit: str
    row: str
    broken: str
    seed: int
    machine: str
    verdict: Verdict


class Book:
    """Reads all, appends one."""

    def __init__(self, path: Path = BOOK) -> None:
        self._path = path

    def rounds(self, commit: str) -> list[Round]:
        """Those of one commit."""
        if not self._path.exists():
            return []
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [_round(line) for line in lines if line["commit"] == commit]

    def add(self, round_: Round) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(round_)) + "\n")


def commit() -> str:
    """The last commit that changed what is measured, and a mark of what is not committed."""
    last = _git("log", "-1", "--format=%h", "--", *MEASURED)
    changes = _git("diff", "HEAD", "--", *MEASURED) + _git("ls-files", "--others", "--exclude-standard", *MEASURED)
    return f"{last}+{hashlib.sha256(changes.encode()).hexdigest()[:6]}" if changes else last


def machine() -> str:
    """Cores, memory, versions."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    server = subprocess.run([find_redis(), "--version"], capture_output=True, text=True, check=True).stdout
    return ", ".join(
        [
            f"{os.cpu_count()} cores",
            f"{pages / 1e9:.0f} GB of memory",
            f"Linux {platform.release().partition('-')[0]}",
            f"Python {platform.python_version()}",
            f"Redis {server.partition('v=')[2].partition(' ')[0]}",
            f"redis-py {redis.__version__}",
            f"gRPC {grpc.__version__}",
        ]
    )


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def _round(line: dict[str, Any]) -> Round:
    verdict = line.pop("verdict")
    called = {kind: Called(**verdict.pop(kind)) for kind in ("many", "delay", "stock")}
    for name in ("flow_s", "exits"):
        verdict[name] = _tuple(verdict[name])
    return Round(verdict=Verdict(**{**verdict, **called}), **line)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value

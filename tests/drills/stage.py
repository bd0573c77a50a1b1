"""One round: load, faults at moments that a seed decides, and a verdict on every request."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.drills.load import Collector, Copy, Load, Sent
from tests.drills.system import System

PATIENCE_S = 180.0
"""A request without an answer for so long after the last fault is lost: the bridge's last backstop needs 135 s."""
LOOK_S = 0.2
AFTERGLOW_S = 1.0
"""For second copies that are under way when the first of the last request has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What became of the requests of Python callers."""

    asked: int = 0
    lost: int = 0
    wrong: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a round came to. `flow_s`: for each fault, until a request published after it was answered; `last_s`: from
    the last fault until no request was unanswered; `exits`: code and seconds of processes that were asked to stop.
    """

    tries: int
    requests: int
    lost: int
    duplicated: int
    wrong: int
    flow_s: tuple[float | None, ...]
    last_s: float
    again: int
    """Requests that were predicted once more after their result had been published."""
    endings: dict[str, int]
    exits: tuple[tuple[int | None, float], ...] = ()
    many: Called = Called()
    delay: Called = Called()


@dataclass(slots=True)
class Stage:
    """What a fault acts on. `begin` → the fault → `end`."""

    system: System
    random: random.Random
    collector: Collector
    load: Load
    expected: dict[int, str] = field(default_factory=dict)
    moments: list[float] = field(default_factory=list)
    exits: list[tuple[int | None, float]] = field(default_factory=list)
    patience_s: float = PATIENCE_S

    def mark(self) -> float:
        """A fault happens now."""
        self.moments.append(time.monotonic())
        return self.moments[-1]

    def wait(self, least_s: float, most_s: float) -> None:
        """For a random while."""
        time.sleep(self.random.uniform(least_s, most_s))

    def poison(self, deed: str, ending: str) -> None:
        """Publish a request that does this and must end like that."""
        self.expected[self.load.publish(deed)] = ending

    def answered(self, sent: Sent) -> Copy | None:
        return min(self.collector.copies.get(sent.number, {}).values(), key=lambda copy: copy.came_s, default=None)

    def wait_flow(self, moment_s: float) -> float:
        """Until a request that was published after the moment is answered; seconds from the moment."""
        until_s = time.monotonic() + self.patience_s
        while time.monotonic() < until_s:
            if (flow_s := self.flow_s(moment_s)) is not None:
                return flow_s
            time.sleep(LOOK_S)
        return self.patience_s

    def flow_s(self, moment_s: float) -> float | None:
        later = (sent for sent in list(self.load.sent.values()) if sent.sent_s > moment_s and sent.deed == "answer")
        came = [copy.came_s for sent in later if (copy := self.answered(sent))]
        return round(min(came) - moment_s, 2) if came else None

    def unanswered(self) -> list[Sent]:
        return [sent for sent in list(self.load.sent.values()) if not self.collector.copies.get(sent.number)]

    def wait_all(self) -> float:
        """Until every request is answered, or patience is over; seconds from the last fault to the last answer."""
        flows = not self.moments or self.flow_s(self.moments[-1]) is not None
        until_s = time.monotonic() + (self.patience_s if flows else 0.0)
        while self.unanswered() and time.monotonic() < until_s:
            time.sleep(LOOK_S)
        time.sleep(AFTERGLOW_S)
        last_s = max((copy.came_s for sent in self.load.sent.values() if (copy := self.answered(sent))), default=0.0)
        return max(0.0, last_s - max(self.moments, default=last_s))

    def verdict(self, last_s: float) -> Verdict:
        sent = self.load.sent
        copies = {number: list(self.collector.copies.get(number, {}).values()) for number in sent}
        firsts = [copy for all_ in copies.values() for copy in all_]
        endings: dict[str, int] = {}
        for copy in firsts:
            endings[copy.ending] = endings.get(copy.ending, 0) + 1
        return Verdict(
            tries=len(self.moments),
            requests=len(sent),
            lost=sum(not all_ for all_ in copies.values()),
            duplicated=sum(map(_surplus, copies.values())),
            wrong=sum(not self._right(number, copy) for number, all_ in copies.items() for copy in all_),
            flow_s=tuple(self.flow_s(moment) for moment in self.moments),
            last_s=round(last_s, 1),
            again=self._again(copies),
            endings=endings,
            exits=tuple(self.exits),
        )

    def _right(self, number: int, copy: Copy) -> bool:
        expected = self.expected.get(number)
        return copy.right if expected is None else copy.ending == expected

    def _again(self, copies: dict[int, list[Copy]]) -> int:
        published = {number: min(copy.published for copy in all_) for number, all_ in copies.items() if all_}
        again = set()
        for number, at in runs(self.system):
            if number in published and at > published[number]:
                again.add(number)
        return len(again)


def runs(system: System) -> Iterator[tuple[int, float]]:
    """Which requests models have predicted, and when."""
    for file in system.runs.glob("*.txt"):
        for line in file.read_text().splitlines():
            number, _, at = line.partition(" ")
            yield int(number), float(at)


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


def _surplus(copies: list[Copy]) -> int:
    """Answers beyond the first. A publish that was repeated unanswered may be two messages: each has its own."""
    messages = {copy.message_id for copy in copies if copy.message_id}
    return max(0, len(copies) - max(1, len(messages)))

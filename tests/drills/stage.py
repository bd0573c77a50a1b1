"""One round: load, faults at moments that a seed decides, and a verdict on every request."""

import random
import time
from dataclasses import dataclass, field, replace

from tests.drills.load import Collector, Load, Sent
from tests.drills.storage import AT_ONCE
from tests.drills.system import System
from tests.drills.verdict import Called, Verdict, verdict_of
from tests.waiting import until

PATIENCE_S = 180.0
"""A request without an answer for so long after the last fault is lost: a bridge finds a lost chunk within 135 s."""
LOOK_S = 0.2
AFTERGLOW_S = 1.0
"""For second copies that are under way when the first of the last request has come."""


@dataclass(slots=True)
class Stage:
    """What faults act on, and what they leave behind for the verdict."""

    system: System
    random: random.Random
    collector: Collector
    load: Load
    expected: dict[int, str] = field(default_factory=dict)
    moments: list[float] = field(default_factory=list)
    flows: dict[float, float] = field(default_factory=dict)
    exits: list[tuple[int | None, float]] = field(default_factory=list)
    neighbours: Called = field(default_factory=Called)
    """What became of the tasks of another application."""
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

    def wait_retried(self) -> None:
        """Until requests are tried again, and answered then."""

        def retried() -> bool:
            answers = list(self.collector.copies.values())
            return any(copy.attempts > 1 for copies in answers for copy in list(copies.values()))

        until(retried, within_s=self.patience_s, what="an answer at a further try")

    def wait_flow(self) -> None:
        """Until a request that was published after the last fault is answered, or patience is over."""
        moment_s = self.moments[-1]
        until_s = time.monotonic() + self.patience_s
        while time.monotonic() < until_s:
            if (flow_s := self.flow_s(moment_s)) is not None:
                self.flows[moment_s] = flow_s
                return
            time.sleep(LOOK_S)

    def flow_s(self, moment_s: float) -> float | None:
        """From the moment until the first answer of a request that was published after it."""
        came = []
        for sent in reversed(list(self.load.sent.values())):
            if sent.sent_s <= moment_s:
                break
            if sent.deed in AT_ONCE and (at_s := self._came_s(sent)):
                came.append(at_s)
        return round(min(came) - moment_s, 2) if came else None

    def wait_all(self) -> float:
        """Until every request is answered, or patience is over; seconds from the last fault to the last answer."""
        flows = not self.moments or self.flow_s(self.moments[-1]) is not None
        until_s = time.monotonic() + (self.patience_s if flows else 0.0)
        missing = list(self.load.sent.values())
        while (missing := [sent for sent in missing if not self._came_s(sent)]) and time.monotonic() < until_s:
            time.sleep(LOOK_S)
        time.sleep(AFTERGLOW_S)
        last_s = max((self._came_s(sent) or 0.0 for sent in self.load.sent.values()), default=0.0)
        return max(0.0, last_s - max(self.moments, default=last_s))

    def _came_s(self, sent: Sent) -> float | None:
        """When the first answer came."""
        copies = list(self.collector.copies.get(sent.number, {}).values())
        return min(copy.came_s for copy in copies) if copies else None

    def verdict(self, last_s: float) -> Verdict:
        copies = {number: list(copies.values()) for number, copies in list(self.collector.copies.items())}
        verdict = verdict_of(
            self.load.sent,
            copies,
            expected=self.expected,
            flow_s=[self.flows.get(moment) or self.flow_s(moment) for moment in self.moments],
            last_s=last_s,
            runs=self.system.runs,
            exits=self.exits,
        )
        return replace(verdict, stock=self.neighbours)

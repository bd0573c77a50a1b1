"""One subscription as it is pulled: what is under way, and whether Pub/Sub refuses it."""

import math
from dataclasses import dataclass

import grpc

from lowtide.bridge.pubsub.client import PubsubError, PubsubRefused
from lowtide.bridge.waits import Waits
from lowtide.config.process.outage import Outage

FLOWS_S = 1.0
"""An answer that took longer waited for its first message. Before a backlog Pub/Sub may take a few tenths."""


@dataclass(slots=True, kw_only=True, eq=False)
class Pull:
    """One call under way. Waits are monotonic; `answered_s` is set by gRPC's thread."""

    source: "PulledSubscription"
    future: grpc.Future
    count: int
    asked_s: float
    answered_s: float = math.inf


class PulledSubscription:
    """From one thread, but for `refused` and `refused_for_s`. Waits are monotonic."""

    def __init__(self, name: str, waits: Waits) -> None:
        self.name = name
        self._waits = waits
        self.pulls: list[Pull] = []
        self.flows = False
        self.refused: PubsubRefused | None = None
        self._refused_since_s = 0.0
        self._failed_s = self._again_s = 0.0
        self._outage = Outage(f"can't pull {name}")

    @property
    def asked(self) -> int:
        """Messages that it is asked for."""
        return sum(pull.count for pull in self.pulls)

    def rests(self, now_s: float) -> bool:
        """True for a while after a failure: others are asked meanwhile."""
        return now_s < self._again_s

    def refused_for_s(self, now_s: float) -> float:
        """So long has Pub/Sub refused it: it is gone, or a permission is."""
        return now_s - self._refused_since_s if self.refused else 0.0

    def answered(self, pull: Pull, *, brought: bool) -> None:
        """Pub/Sub serves it. An answer to what was asked before the last failure says nothing of now."""
        self.flows = brought and pull.answered_s - pull.asked_s < FLOWS_S
        if pull.asked_s >= self._failed_s:
            self._outage.over()
            self.refused = None

    def failed(self, error: PubsubError, now_s: float) -> None:
        """A pull failed."""
        self._outage.failed(error)
        self.flows = False
        self._failed_s = now_s
        if not isinstance(error, PubsubRefused):
            self._again_s, self.refused = now_s + self._waits.again_s, None
            return
        self._again_s = now_s + self._waits.refused_again_s
        if self.refused is None:
            self._refused_since_s = now_s
        self.refused = error

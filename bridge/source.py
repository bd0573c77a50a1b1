"""One subscription as it is pulled: what is under way, and whether Pub/Sub refuses it."""

from dataclasses import dataclass

import grpc

from lowtide.bridge.pubsub import PubsubError, PubsubRefused
from lowtide.tasks.outage import Outage

AGAIN_S = 1.0
REFUSED_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pull:
    """One call under way. `asked_s`: monotonic."""

    source: "Source"
    future: grpc.Future
    count: int
    asked_s: float


class Source:
    """From one thread, but for `refused` and `refused_for_s`. Times are monotonic."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pull: Pull | None = None
        self.refused: PubsubRefused | None = None
        self._refused_since_s = 0.0
        self._failed_s = self._again_s = 0.0
        self._outage = Outage(f"can't pull {name}")

    def rests(self, now_s: float) -> bool:
        """True for a while after a failure: others are asked meanwhile."""
        return now_s < self._again_s

    def refused_for_s(self, now_s: float) -> float:
        """So long has Pub/Sub refused it: it is gone, or a permission is."""
        return now_s - self._refused_since_s if self.refused else 0.0

    def answered(self, pull: Pull) -> None:
        """Pub/Sub serves it. An answer to what was asked before the last failure says nothing of now."""
        if pull.asked_s >= self._failed_s:
            self._outage.over()
            self.refused = None

    def failed(self, error: PubsubError, now_s: float) -> None:
        """A pull failed."""
        self._outage.failed(error)
        self._failed_s = now_s
        if not isinstance(error, PubsubRefused):
            self._again_s, self.refused = now_s + AGAIN_S, None
            return
        self._again_s = now_s + REFUSED_AGAIN_S
        if self.refused is None:
            self._refused_since_s = now_s
        self.refused = error

"""The port: how a task reaches the engine that predicts. The worker process plugs one in when it starts."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from lowtide.tasks.errors import EngineStopped, LowtideError
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest


class Engine(Protocol):
    """What predicts. Safe to call from any thread."""

    def submit(self, requests: Sequence[InferenceRequest]) -> Sequence[Future[Outcome]]:
        """Take the requests, all of one model; one future each, in order. A request's failure is an outcome, never
        an exception: a future raises only EngineStopped, when the engine stops before the request is done.
        """

    def fetch(self, requests: Sequence[InferenceRequest]) -> Sequence[InferenceRequest | Outcome]:
        """Bring the content of requests here that are to run later; it is not looked into. In order: each as if its
        content had travelled with it, or unchanged if there is no memory for that, or the outcome of one that fails.
        Takes as long as the slowest. Raises EngineStopped.
        """

    def seconds_per_request(self, model: str) -> float:
        """Measured seconds of device time per request of `model`; a guess before the first batch."""


class NoEngine(LowtideError):
    """Raised when a task runs in a process in which no engine was plugged in."""


_engine: Engine | None = None


def plug(engine: Engine | None) -> None:
    """Make `engine` the one that this process' tasks use; None unplugs."""
    global _engine  # one engine a process is what a worker is
    _engine = engine


def plugged() -> Engine:
    """The engine of this process. Raises NoEngine when there is none."""
    if _engine is None:
        raise NoEngine("no engine is plugged in: tasks run in a worker (`lowtide worker`), or after port.plug(engine)")
    return _engine


__all__ = ["Engine", "EngineStopped", "NoEngine", "plug", "plugged"]

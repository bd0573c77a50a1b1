"""What passes between the stages of the engine: a request grows from `Job` to `Fetched`, `Ready`, `Predicted`.

Times are monotonic seconds, durations seconds.
"""

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch

from lowtide.tasks.wire.outcome import Outcome, RequestError
from lowtide.tasks.wire.request import InferenceRequest, Priority


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A request in this process, and the future that waits for its outcome. `ahead`: only its content is fetched, and
    the future gets that.
    """

    request: InferenceRequest
    future: Future[Any]
    arrived_s: float
    expires_s: float = math.inf
    version: str = ""
    """Of the model: goes into every outcome."""
    ahead: bool = False

    @property
    def urgent(self) -> bool:
        """True for a request of high priority."""
        return self.request.priority is Priority.HIGH


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fetched:
    """A job whose content is here. `content` None: it is inline, still base64."""

    job: Job
    content: bytes | None = None
    fetch_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """A job whose item (on the CPU) may join a batch."""

    job: Job
    item: torch.Tensor
    fetch_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """What the device made of a job: an output (on the CPU, in the form that `Model.predict` says), or an error. The
    batch of `n` took `batch_s`.
    """

    ready: Ready
    batch_s: float
    n: int
    output: Any = None
    error: RequestError | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Running:
    """What a device is at: these items, together, since `started_s`."""

    items: tuple[Ready, ...]
    started_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overdue:
    """What does not end, `what` in words. `outcome`: that of the one job, where one alone can be to blame."""

    jobs: tuple[Job, ...]
    what: str
    outcome: Outcome | None = None

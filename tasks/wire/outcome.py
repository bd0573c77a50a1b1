"""What an outcome looks like as JSON: what became of one request in a worker."""

from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator

from lowtide.config.redact import redacted
from lowtide.tasks.wire.base import Wire

ERROR_MAX_CHARS = 1000
"""Of what a model says: a dead letter's reason takes no more, and PyTorch can say a megabyte."""
ERROR_LOOK_CHARS = 20_000
"""So much of it is looked through for URLs."""


class Status(StrEnum):
    """How a request ended. `retry` never leaves the system: the bridge turns it into another try."""

    OK = "ok"
    FAILED = "failed"
    EXPIRED = "expired"
    RETRY = "retry"


class RequestError(Wire):
    """Why a request has no outputs: `type` is a word to branch on, `message` a sentence for people."""

    type: str
    message: str

    @field_validator("message")
    @classmethod
    def _for_people(cls, value: str) -> str:
        """Results, dead letters and callers' exceptions are read by more people than a signed URL is for; and what a
        model says may have all of the content in it.
        """
        # Half a URL does not look like one: redacted before it is cut, and cut between words before that.
        cut = len(value) > ERROR_LOOK_CHARS
        words = value[:ERROR_LOOK_CHARS].rpartition(" ")[0] if cut else value
        shown = redacted(words)
        return shown[:ERROR_MAX_CHARS] + "…" if cut or len(shown) > ERROR_MAX_CHARS else shown


class Timings(Wire):
    """Milliseconds. `gpu`: the share of its batch's time on the device; `queued`: waits, in a result all of them."""

    queued: float = 0.0
    fetch: float = 0.0
    decode: float = 0.0
    gpu: float = 0.0
    total: float = 0.0


class Outcome(Wire):
    """What became of one request in a worker: one entry of what `lowtide.infer_chunk` returns."""

    status: Status
    model_version: str = ""
    outputs: list[Any] = Field(default_factory=list)
    error: RequestError | None = None
    timings_ms: Timings = Timings()

    @classmethod
    def failed(cls, type: str, message: str, *, retry: bool = False, timings_ms: Timings | None = None) -> "Outcome":
        """A failure; with `retry`, one that another try may cure."""
        return cls(
            status=Status.RETRY if retry else Status.FAILED,
            error=RequestError(type=type, message=message),
            timings_ms=timings_ms or Timings(),
        )

    def to_wire(self) -> dict[str, Any]:
        """The outcome as JSON-ready values."""
        return self.model_dump(mode="json")

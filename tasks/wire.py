"""The wire contract: what a request, an outcome and a result look like as JSON.

Other programs rely on these; `docs/schemas/` holds their JSON Schemas. Times are RFC 3339, durations milliseconds.
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import to_jsonable_python

from lowtide.config.redact import redacted
from lowtide.tasks.errors import InvalidRequest

WIRE_VERSION = 1
"""What requests and outcomes look like. One more when a worker of the release before would misread a request: such a
worker hands back what it doesn't know. A field that may be ignored, in an outcome for example, needs no new version.
"""

REQUEST_ID_MAX_BYTES = 1024
"""A Pub/Sub attribute value's limit: the id is echoed as an attribute."""
ERROR_MAX_CHARS = 1000
"""Of what a model says: a dead letter's reason takes no more, and PyTorch can say a megabyte."""
ERROR_LOOK_CHARS = 20_000
"""So much of it is looked through for URLs."""


class Priority(StrEnum):
    """Orders what has been pulled; a backlog is overtaken by a subscription of its own."""

    HIGH = "high"
    NORMAL = "normal"


class Status(StrEnum):
    """How a request ended. `retry` never leaves the system: the bridge turns it into another try."""

    OK = "ok"
    FAILED = "failed"
    EXPIRED = "expired"
    RETRY = "retry"


class Wire(BaseModel):
    """Frozen, and strict about unknown fields, so that a misspelt one is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class InferenceRequest(Wire):
    """One thing to predict. Content is `uri` (gs, https, file) or `data` (base64), exactly one of them."""

    model: str = Field(min_length=1, max_length=200, description="Name of the model.")
    uri: str | None = Field(default=None, min_length=1, max_length=4096, description="Where the content is.")
    data: str | None = Field(default=None, description="The content itself, base64.")
    params: dict[str, Any] = Field(default_factory=dict, description="Passed to the model.")
    request_id: str | None = Field(
        default=None,
        min_length=1,
        description="Echoed. Default: the Pub/Sub message id. Two publishes are two requests.",
    )
    expires_at: AwareDatetime | None = Field(default=None, description="Not worth predicting after this time.")
    priority: Priority = Field(default=Priority.NORMAL, description="Order among requests that have been pulled.")
    reply_topic: str | None = Field(default=None, min_length=1, description="Topic door only: where the result goes.")
    traceparent: str | None = Field(default=None, description="W3C trace context, carried through.")

    @field_validator("expires_at", mode="before")
    @classmethod
    def _rfc_3339(cls, value: object) -> object:
        # A number is no time: somebody who means "in 60 seconds" would get 1970.
        if value is None or isinstance(value, datetime) or (isinstance(value, str) and "T" in value.upper()):
            return value
        raise ValueError("expected an RFC 3339 time such as 2026-01-31T12:00:00Z")

    @field_validator("params")
    @classmethod
    def _sendable(cls, value: dict[str, Any]) -> dict[str, Any]:
        # Tried here, as it is sent later: then there would be nobody left to tell, and neighbours in the chunk.
        try:
            json.dumps(to_jsonable_python(value))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"can't be sent as JSON: {error}") from error
        return value

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if (self.uri is None) == (self.data is None):
            raise ValueError("uri, data: give exactly one of them")
        if self.request_id is not None and len(self.request_id.encode()) > REQUEST_ID_MAX_BYTES:
            raise ValueError(f"request_id: longer than {REQUEST_ID_MAX_BYTES} bytes")
        return self

    @classmethod
    def parse(cls, value: "Mapping[str, Any] | InferenceRequest") -> "InferenceRequest":
        """The request in a dict. Raises InvalidRequest that names the offending field."""
        if isinstance(value, InferenceRequest):
            return value
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"expected an object with model and uri or data, got {type(value).__name__}")
        try:
            return cls.model_validate(dict(value))
        except ValidationError as error:
            raise _invalid(error) from error

    def to_wire(self) -> dict[str, Any]:
        """The request as JSON-ready values, without what is at its default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def content(self) -> bytes:
        """The inline content. Raises InvalidRequest when `data` is not base64."""
        try:
            return base64.b64decode(self.data or "", validate=True)
        except ValueError as error:  # binascii.Error is one; text beyond ASCII is another
            raise InvalidRequest(f"not base64: {error}", field="data") from error

    def expired(self, now: datetime | None = None) -> bool:
        """True when `expires_at` has passed."""
        return self.expires_at is not None and (now or datetime.now(UTC)) >= self.expires_at


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


class InferenceResult(Wire):
    """The message on the reply topic: the last word on one request."""

    request_id: str
    message_id: str
    model: str
    model_version: str
    status: Literal[Status.OK, Status.FAILED, Status.EXPIRED]
    outputs: list[Any]
    error: RequestError | None
    attempts: int = Field(ge=1, description="Tries that count: losses of machines do not.")
    timings_ms: Timings


def _invalid(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not field and ": " in message:
        field, _, message = message.partition(": ")
    if first["type"] == "missing":
        message = "is missing"
    if first["type"] == "extra_forbidden":
        message = f"is not a field of a request; fields are {', '.join(InferenceRequest.model_fields)}"
    return InvalidRequest(message, field or None)

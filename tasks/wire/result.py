"""The wire contract: what a result looks like as JSON. `docs/schemas/` holds its JSON Schema."""

from typing import Any, Literal

from pydantic import Field

from lowtide.tasks.wire.base import Wire
from lowtide.tasks.wire.fields import GS, is_gs
from lowtide.tasks.wire.outcome import RequestError, Status, Timings
from lowtide.tasks.wire.request import InferenceRequest


class StoredObject(Wire):
    """An object in Cloud Storage. `generation`: null when the request named none, so that the live one was fetched."""

    bucket: str
    name: str
    generation: str | None = None

    @classmethod
    def of(cls, request: InferenceRequest) -> "StoredObject | None":
        """That of the request's content, if it is one."""
        bucket, slash, name = (request.uri or "")[len(GS) :].partition("/")
        return cls(bucket=bucket, name=name, generation=request.generation) if is_gs(request.uri) and slash else None


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
    object: StoredObject | None = Field(default=None, description="Where the content was, if in Cloud Storage.")

"""What a request looks like as JSON."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import (
    AwareDatetime,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import to_jsonable_python

from lowtide.tasks.errors import InvalidRequest
from lowtide.tasks.wire.base import Wire
from lowtide.tasks.wire.fields import Generation, RequestId, generation_of, id_in_words, is_gs, nulls_are_absent
from lowtide.tasks.wire.inline import canonical, decoded, encoded
from lowtide.tasks.wire.invalid import explained, shown, unexpected
from lowtide.tasks.wire.version import SINCE

REQUEST_ID_MAX_BYTES = 1024
"""A Pub/Sub attribute value's limit: the id is echoed as an attribute."""


class Priority(StrEnum):
    """Orders what has been pulled; a backlog is overtaken by a subscription of its own."""

    HIGH = "high"
    NORMAL = "normal"


class InferenceRequest(Wire):
    """One thing to predict. Content is `uri` (gs, https, file) or `data` (base64), exactly one. Null is absent."""

    model_config = ConfigDict(json_schema_extra=nulls_are_absent)

    model: str = Field(min_length=1, max_length=200, description="Name of the model.")
    uri: str | None = Field(default=None, min_length=1, max_length=4096, description="Where the content is.")
    generation: str | None = Field(
        default=None, description="Of the object that `uri` (gs) names: this one, or none. Default: the live one."
    )
    data: str | None = Field(
        default=None,
        description="The content itself, base64. Line breaks, a data: prefix, the URL-safe alphabet and no"
        " padding are taken.",
        json_schema_extra={"contentEncoding": "base64"},
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Passed to the model.")
    request_id: str | None = Field(
        default=None,
        min_length=1,
        description="Echoed, a number as text. Default: the Pub/Sub message id. Two publishes are two requests.",
    )
    expires_at: AwareDatetime | None = Field(default=None, description="Not worth predicting after this time.")
    priority: Priority = Field(default=Priority.NORMAL, description="Order among requests that have been pulled.")
    reply_topic: str | None = Field(default=None, min_length=1, description="Topic door only: where the result goes.")
    traceparent: str | None = Field(default=None, description="W3C trace context, carried through.")

    _content: bytes | None = PrivateAttr(default=None)
    """Inline content that was decoded, or never was base64. It is in the place of `data`."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given = {name: each for name, each in value.items() if each is not None}
        # One that is no field is told: an error for each of a hundred thousand would take seconds.
        fields = cls.model_fields
        for name in [name for name in given if name not in fields][1:]:
            del given[name]
        return given

    @field_validator("uri", mode="before")
    @classmethod
    def _no_data_url(cls, value: object) -> object:
        if isinstance(value, str) and value[:5].lower() == "data:":
            raise ValueError("is a data: URL, which is content: give it as data, without uri")
        return value

    @field_validator("generation", mode="before", json_schema_input_type=Generation | None)
    @classmethod
    def _of_an_object(cls, value: object) -> object:
        return generation_of(value)

    @field_validator("data")
    @classmethod
    def _one_spelling(cls, value: str | None, info: ValidationInfo) -> str | None:
        # Once, at the door: what travels inside is read by workers of every release.
        return value if value is None or info.context else canonical(value)

    @field_validator("request_id", mode="before", json_schema_input_type=RequestId | None)
    @classmethod
    def _in_words(cls, value: object) -> object:
        return id_in_words(value)

    @field_validator("expires_at", mode="before")
    @classmethod
    def _rfc_3339(cls, value: object) -> object:
        # A number is no time: somebody who means "in 60 seconds" would get 1970.
        if isinstance(value, datetime) or (isinstance(value, str) and "T" in value.upper()):
            return value
        raise unexpected()

    @field_validator("params")
    @classmethod
    def _sendable(cls, value: dict[str, Any]) -> dict[str, Any]:
        # Tried here, as it is sent later: then there would be nobody left to tell, and neighbours in the chunk.
        try:
            json.dumps(to_jsonable_python(value), allow_nan=False)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"can't be sent as JSON: {error}") from error
        return value

    @model_validator(mode="after")
    def _one_content(self, info: ValidationInfo) -> Self:
        inline = self.data is not None or bool(info.context and info.context["content"] is not None)
        if (self.uri is None) != inline:
            raise ValueError(f"uri, data: give exactly one of them, got {'neither' if self.uri is None else 'both'}")
        if self.generation is not None and not is_gs(self.uri):
            raise ValueError("generation: is of an object of Cloud Storage, and uri names none (gs://bucket/object)")
        if self.request_id is not None and len(self.request_id.encode()) > REQUEST_ID_MAX_BYTES:
            raise ValueError(f"request_id: longer than {REQUEST_ID_MAX_BYTES} bytes")
        return self

    @classmethod
    def parse(cls, value: "Mapping[str, Any] | InferenceRequest", *, travelled: bool = False) -> "InferenceRequest":
        """The request in a dict. `travelled`: it came from a door, as a rule, so that how `data` is spelled is looked
        at when it is decoded; and `data` of bytes is the content. Raises InvalidRequest that names the offending field.
        """
        if isinstance(value, InferenceRequest):
            return value
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"expected an object with model and uri or data, got {shown(value)}")
        fields = dict(value)
        content = fields.pop("data") if travelled and isinstance(fields.get("data"), bytes) else None
        try:
            request = cls.model_validate(fields, context={"content": content} if travelled else None)
        except ValidationError as error:
            raise explained(error) from error
        if content is not None:
            request._content = content
        return request

    def unpacked(self) -> "InferenceRequest":
        """The same with inline content as bytes, decoded once for as long as it is held. Raises InvalidRequest."""
        if self.data is None:
            return self
        unpacked = self.model_copy(update={"data": None})
        unpacked._content = self.content()
        return unpacked

    def with_content(self, content: bytes) -> "InferenceRequest":
        """The same, as if the content that `uri` names had travelled with it."""
        brought = self.model_copy(update={"uri": None, "generation": None})
        brought._content = content
        return brought

    def to_wire(self, *, raw: bool = False) -> dict[str, Any]:
        """The request as JSON-ready values, without what is at its default. `raw`: but for content that is here as
        bytes, which stays so, as `data`.
        """
        fields = self.model_dump(mode="json", exclude_defaults=True)
        if (content := self._kept()) is not None:
            fields["data"] = content if raw else encoded(content)
        return fields

    @property
    def wire_version(self) -> int:
        """What a worker must know to read it."""
        used = (version for name, version in SINCE.items() if self.__dict__.get(name) is not None)
        return max(used, default=1)

    @property
    def inline_bytes(self) -> int:
        """Size of the inline content; of base64, which may end in two characters of padding, at the least."""
        content = self._kept()
        return max(0, len(self.data or "") // 4 * 3 - 2) if content is None else len(content)

    def content(self) -> bytes:
        """The inline content. Raises InvalidRequest when `data` is not base64."""
        if (content := self._kept()) is not None:
            return content
        try:
            return decoded(self.data or "")
        except ValueError as error:
            raise InvalidRequest(str(error), field="data") from error

    def expired(self, now: datetime | None = None) -> bool:
        """True when `expires_at` has passed."""
        return self.expires_at is not None and (now or datetime.now(UTC)) >= self.expires_at

    def _kept(self) -> bytes | None:
        # By its own name pydantic finds a private attribute only after the usual search has failed, which takes ten
        # times as long; a bridge asks ten times for each message.
        return (self.__pydantic_private__ or {}).get("_content")

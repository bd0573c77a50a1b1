"""What a message asks for. Pure.

Data that the publisher calls raw is the content. Else the forms, tried in this order: a notification of Cloud Storage;
a CloudEvent, structured or of Cloud Storage in binary mode; a JSON object; raw bytes. Where data and attributes both
name a field, **the data wins**: it is what the publisher wrote, attributes are what may be added on the way. So an
attribute is a default for every request of a topic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lowtide.bridge.messages import events
from lowtide.bridge.messages.content import CONTENT, RAW, is_raw
from lowtide.bridge.messages.decode import Malformed, TooManyParts, begin, read_request, read_text
from lowtide.bridge.messages.events import Said
from lowtide.bridge.messages.kinds import Ignored, Received, Rejection, Translated
from lowtide.bridge.messages.reasons import NoRequest, reject
from lowtide.config import Settings
from lowtide.tasks.errors import InvalidRequest, not_served
from lowtide.tasks.wire.invalid import named
from lowtide.tasks.wire.request import InferenceRequest

ATTRIBUTES = ("request_id", "model", "params", "reply_topic", "expires_at", "priority", "traceparent")
"""Fields of a request that an attribute may give. A CloudEvent's extension may too: `ce-replytopic`, without `_`."""

REQUEST_FIELDS = frozenset(InferenceRequest.model_fields)

CODINGS = frozenset({"br", "compress", "deflate", "lz4", "snappy", "zstd"})
"""What HTTP's `content-encoding` may say, and is not unpacked."""
CLOUD_EVENTS = "application/cloudevents"
SCHEMA_ENCODING = "googclient_schemaencoding"
"""Pub/Sub's own, on topics with a schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What requests may ask for. `reply_topics`: every name under which a topic may be asked for → its full name."""

    models: frozenset[str]
    default_model: str | None
    results_topic: str
    reply_topics: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """The rules that the settings make. Raises SettingsError without a project."""
        allowed = [settings.results_topic, *settings.reply_topics]
        full = {name: settings.topic_path(name) for name in allowed}
        return cls(
            models=frozenset(settings.model_names),
            default_model=settings.default_model,
            results_topic=settings.topic_path(settings.results_topic),
            reply_topics={**full, **{path: path for path in full.values()}},
        )


def translate(received: Received, rules: Rules) -> Translated | Rejection | Ignored:
    """The request in a message, or why it is none."""
    try:
        return _translate(received, rules)
    except NoRequest as none:
        return none.ending


def claimed_id(received: Received) -> str:
    """The request id of a message that is no request: what the publisher called it, as far as it can be read."""
    attributes = received.attributes
    try:
        document = (None if is_raw(attributes) else _document(received.data)) or {}
    except NoRequest:
        document = {}
    inside = document.get("data") if events.is_structured(document) else None
    for fields in (inside, document, attributes, events.event_attributes(attributes)):
        given = named(fields, "request_id") if isinstance(fields, Mapping) else None
        if given not in (None, "") and isinstance(given, str | int | float) and not isinstance(given, bool):
            return str(given)
    return received.message_id


def is_read(attribute: str) -> bool:
    """True for an attribute that may make a difference to the request."""
    return attribute in (*ATTRIBUTES, CONTENT) or events.is_event_attribute(attribute)


def _translate(received: Received, rules: Rules) -> Translated:
    event = events.event_attributes(received.attributes)
    said = _said(received.data, received.attributes, event)
    fields = {**_given(received.attributes, event), **_without_nulls(said.fields)}
    if fields.get("model") in (None, ""):
        fields["model"] = rules.default_model or reject(
            "no_model", "names no model, and LOWTIDE_DEFAULT_MODEL is unset"
        )
    request = _parse(fields)
    if request.model not in rules.models:
        reject("unknown_model", not_served(request.model, rules.models))
    return Translated(
        received=received, request=request, reply_topic=_reply_topic(request, rules), is_upload=said.upload
    )


def _given(attributes: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside the data. `event`: a CloudEvent's own attributes, which have no `_` in their names."""
    given: dict[str, Any] = {}
    for name in ATTRIBUTES:
        value = attributes.get(name) or event.get(name.replace("_", ""))
        if value:
            given[name] = _params(value) if name == "params" and isinstance(value, str) else value
    return given


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _params(text: str) -> Any:
    try:
        return read_text(text)
    except Malformed as error:
        reject("invalid_request", f"params: {error}")


def _said(data: bytes, attributes: Mapping[str, str], event: Mapping[str, str]) -> Said:
    if is_raw(attributes):
        return _raw(data)
    if (called := attributes.get(CONTENT)) is not None:
        reject("invalid_request", f"{CONTENT}: may be {RAW} or absent, not {called[:40]!r}")
    if events.is_notice(attributes):
        return events.notice(attributes, data)
    kind = event.get("type", "")
    if events.is_storage_event(kind):
        events.check_storage_event(kind)
    has_model = bool(attributes.get("model") or event.get("model"))
    document = _document(data, may_be_raw=has_model and not events.is_storage_event(kind))
    if events.is_structured(document):
        said = events.structured(document)
        return replace(said, fields={**_given(document, document), **_without_nulls(said.fields)})
    if events.is_storage_event(kind):
        return events.storage_event(kind, document)
    if document is None:
        _check_encodings(attributes, has_model=has_model)
        return _raw(data)
    if not REQUEST_FIELDS.issuperset(document):
        events.check_known(kind, document)
    return Said(fields=document)


def _document(data: bytes, *, may_be_raw: bool = False) -> dict[str, Any] | None:
    """The JSON object in data; None for data that is content. With a model named beside it, what begins like JSON may
    as well be a content that begins so.
    """
    first = begin(data)
    if not first:
        return None
    try:
        value = read_request(data)
    except TooManyParts as error:
        reject("invalid_request", f"data: {error}, which no request has; content is published with {CONTENT}={RAW}")
    except Malformed as error:
        if may_be_raw or first == '"':
            return None
        reject("malformed_json", f"data: {error}")
    value = _only_event(value)
    if isinstance(value, dict):
        return value
    if not may_be_raw:
        _check_content(value)
    return None


def _only_event(value: Any) -> Any:
    """That of a batch of CloudEvents, if it is one: each message ends once."""
    if not isinstance(value, list) or not value or not all(map(events.is_structured, value)):
        return value
    if len(value) > 1:
        reject("invalid_request", f"data: a batch of {len(value)} CloudEvents: publish each as a message of its own")
    return value[0]


def _check_content(value: list[Any] | str) -> None:
    """Raises NoRequest for JSON that is more likely a mistake than content."""
    if isinstance(value, list):
        reject("malformed_json", f"data: an array of {len(value)}: expected a JSON object, one request a message")
    if begin(value.encode("utf-8", "replace")):
        reject("malformed_json", "data: JSON in a JSON text: it was encoded twice")


def _check_encodings(attributes: Mapping[str, str], *, has_model: bool) -> None:
    """Raises NoRequest for data that is no JSON, because it is in another encoding, as attributes say."""
    small = {name.lower().replace("_", "-"): value.strip().lower() for name, value in attributes.items()}
    if (kind := small.get("content-type", "")).startswith(CLOUD_EVENTS):
        reject("invalid_request", f"content-type: {kind[:100]}, and the data is no CloudEvent in JSON")
    if has_model:
        return
    if (coding := small.get("content-encoding")) in CODINGS:
        message = f"content-encoding: {coding} is not unpacked: publish plainly or as gzip, or {CONTENT}={RAW}"
        reject("invalid_request", message)
    if attributes.get(SCHEMA_ENCODING) == "BINARY":
        message = f"{SCHEMA_ENCODING}: BINARY is not read: publish with the encoding JSON, or {CONTENT}={RAW}"
        reject("invalid_request", message)


def _raw(data: bytes) -> Said:
    if not data:
        reject("no_content", "data: is empty")
    return Said(fields={"data": data})


def _parse(fields: Mapping[str, Any]) -> InferenceRequest:
    """The request. Its content is bytes from here on: those of the message itself, if it is raw."""
    try:
        return InferenceRequest.parse(fields, travelled=True).unpacked()
    except InvalidRequest as error:
        reject("invalid_request", str(error))


def _reply_topic(request: InferenceRequest, rules: Rules) -> str:
    if request.reply_topic is None:
        return rules.results_topic
    full = rules.reply_topics.get(request.reply_topic)
    return full or reject(
        "reply_topic_not_allowed", f"reply_topic: {request.reply_topic} is not in LOWTIDE_REPLY_TOPICS"
    )

"""What a message asks for. Pure.

Data that the publisher calls raw is the content. Else the four forms, tried in this order: a CloudEvent in binary mode
(its data is one of the others), a Cloud Storage notification, a JSON object, raw bytes. Where data and attributes both
name a field, **the data wins**: it is what the publisher wrote, attributes are what may be added on the way. So an
attribute is a default for every request of a topic.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from lowtide.bridge.content import CONTENT, RAW, is_raw
from lowtide.bridge.messages import Received, Rejection, Translated
from lowtide.config import Settings
from lowtide.tasks.errors import InvalidRequest, not_served
from lowtide.tasks.wire import InferenceRequest

ATTRIBUTES = ("request_id", "model", "params", "reply_topic", "expires_at", "priority", "traceparent")
"""Fields of a request that an attribute may give. A CloudEvent's extension may too: `ce-replytopic`, without `_`."""

REASONS = {
    "malformed_json": "the data begins like JSON and is no JSON object",
    "invalid_request": "a field is missing, unknown or wrong",
    "no_content": "the message is empty",
    "no_model": "no model is named, and there is no default model",
    "unknown_model": "the fleet does not serve the model",
    "unsupported_event": "an event of Cloud Storage that is no upload",
    "reply_topic_not_allowed": "`reply_topic` is not in `LOWTIDE_REPLY_TOPICS`",
}
"""Why a message is no request."""

UPLOADED = "OBJECT_FINALIZE"
CLOUD_STORAGE_EVENTS = "google.cloud.storage.object.v1."
BOM = b"\xef\xbb\xbf"


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


class _Rejected(Exception):
    """Raised inside this file when a message is no request."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection)
        self.rejection = rejection


def translate(received: Received, rules: Rules) -> Translated | Rejection:
    """The request in a message, or why it is none."""
    try:
        return _translate(received, rules)
    except _Rejected as rejected:
        return rejected.rejection


def claimed_id(received: Received) -> str:
    """The request id of a message that is no request: what the publisher called it, as far as it can be read."""
    try:
        is_json = received.data[:1] == b"{" and not is_raw(received.attributes)
        given = _object(received.data).get("request_id") if is_json else None
    except _Rejected:
        given = None
    return given if isinstance(given, str) and given else received.attributes.get("request_id") or received.message_id


def is_read(attribute: str) -> bool:
    """True for an attribute that may make a difference to the request."""
    return attribute in (*ATTRIBUTES, CONTENT, "eventType", "bucketId", "objectId") or attribute.startswith("ce-")


def _translate(received: Received, rules: Rules) -> Translated:
    attributes = received.attributes
    given = _from_attributes(attributes) if attributes else {}
    fields = _content(received.data, attributes, given)
    fields = {**given, **{name: value for name, value in fields.items() if value is not None}}
    if not fields.get("model"):
        fields["model"] = rules.default_model or _reject(
            "no_model", "names no model, and LOWTIDE_DEFAULT_MODEL is unset"
        )
    request = _parse(fields)
    if request.model not in rules.models:
        _reject("unknown_model", not_served(request.model, rules.models))
    return Translated(received=received, request=request, reply_topic=_reply_topic(request, rules))


def _reject(reason: str, message: str) -> NoReturn:
    raise _Rejected(Rejection(reason=reason, message=message))


def _from_attributes(attributes: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name in ATTRIBUTES:
        value = attributes.get(name) or attributes.get(f"ce-{name.replace('_', '')}")
        if value:
            given[name] = _params(value) if name == "params" else value
    return given


def _params(text: str) -> Any:
    try:
        return _loads(text)
    except (ValueError, RecursionError) as error:
        _reject("invalid_request", f"params: not JSON: {error}")


def _content(data: bytes, attributes: Mapping[str, str], given: Mapping[str, Any]) -> Mapping[str, Any]:
    if is_raw(attributes):
        return _raw(data)
    if (said := attributes.get(CONTENT)) is not None:
        _reject("invalid_request", f"{CONTENT}: may be {RAW} or absent, not {said[:40]!r}")
    event = attributes.get("ce-type", "")
    if event.startswith(CLOUD_STORAGE_EVENTS):
        return _storage_event(event, data)
    if "eventType" in attributes and "bucketId" in attributes:
        return _notification(attributes)
    begin = data.removeprefix(BOM).lstrip()[:1] if data[:1] in b"{[ \t\r\n\xef" else b""
    if begin in (b"{", b"["):
        return _json_or_raw(data, raw="model" in given)
    return _raw(data)


def _notification(attributes: Mapping[str, str]) -> Mapping[str, Any]:
    if attributes["eventType"] != UPLOADED:
        _reject("unsupported_event", f"eventType: only {UPLOADED} asks for a prediction, not {attributes['eventType']}")
    if not attributes.get("objectId"):
        _reject("invalid_request", "objectId: is missing from a Cloud Storage notification")
    return {"uri": f"gs://{attributes['bucketId']}/{attributes['objectId']}"}


def _storage_event(event: str, data: bytes) -> Mapping[str, Any]:
    if event != f"{CLOUD_STORAGE_EVENTS}finalized":
        _reject(
            "unsupported_event", f"ce-type: only {CLOUD_STORAGE_EVENTS}finalized asks for a prediction, not {event}"
        )
    thing = _object(data)
    if not isinstance(thing.get("bucket"), str) or not isinstance(thing.get("name"), str):
        _reject("invalid_request", "bucket, name: are missing from a Cloud Storage event")
    return {"uri": f"gs://{thing['bucket']}/{thing['name']}"}


def _json_or_raw(data: bytes, *, raw: bool) -> Mapping[str, Any]:
    """Data that begins like JSON. With a model attribute it may as well be a content that begins so."""
    try:
        return _object(data)
    except _Rejected:
        if raw:
            return _raw(data)
        raise


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = _loads(data)
    except RecursionError:
        _reject("malformed_json", "data: nested too deeply")
    except ValueError as error:
        _reject("malformed_json", f"data: not JSON: {error}")
    if not isinstance(value, dict):
        _reject("malformed_json", f"data: expected a JSON object, got {type(value).__name__}")
    return value


def _raw(data: bytes) -> Mapping[str, Any]:
    if not data:
        _reject("no_content", "data: is empty")
    return {"data": base64.b64encode(data).decode("ascii")}


def _loads(text: str | bytes) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse(fields: Mapping[str, Any]) -> InferenceRequest:
    try:
        return InferenceRequest.parse(fields)
    except InvalidRequest as error:
        _reject("invalid_request", str(error))


def _reply_topic(request: InferenceRequest, rules: Rules) -> str:
    if request.reply_topic is None:
        return rules.results_topic
    full = rules.reply_topics.get(request.reply_topic)
    return full or _reject(
        "reply_topic_not_allowed", f"reply_topic: {request.reply_topic} is not in LOWTIDE_REPLY_TOPICS"
    )

"""What events ask for: notices of Cloud Storage, and CloudEvents that are written as JSON. Pure."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from lowtide.bridge.messages.decode import EVENT, Malformed, begin, read
from lowtide.bridge.messages.reasons import ignore, reject
from lowtide.tasks.wire.inline import canonical

STORAGE = "google.cloud.storage."
UPLOADED = "object_finalize"
NO_UPLOADS = {
    "object_delete": "deleted",
    "object_archive": "archived",
    "object_metadata_update": "metadata_updated",
}
UPLOADED_TYPE = f"{STORAGE}object.v1.finalized"
NO_UPLOAD_TYPES = {
    f"{STORAGE}object.v1.deleted": "deleted",
    f"{STORAGE}object.v1.archived": "archived",
    f"{STORAGE}object.v1.metadataupdated": "metadata_updated",
}
NOTICE_ATTRIBUTES = ("eventType", "bucketId", "objectId", "objectGeneration")

_PREFIX = re.compile(r"(?:ce[-_.]|cloudevents[-_.:])(?=.)", re.IGNORECASE)
"""`ce-` is the form of the standard; the others are those of its other protocols, as gateways hand them on."""

FOREIGN_TYPES = {
    "google.cloud.audit.": f"an entry of the audit log; let the trigger send {UPLOADED_TYPE}",
    "google.storage.": f"a Cloud Functions event; let the trigger send {UPLOADED_TYPE}",
    "google.cloud.pubsub.": "a message of another topic: subscribe to that topic",
    "com.amazonaws.": "an event of AWS",
    "microsoft.": "an event of Azure",
}
FOREIGN = (
    ({"message", "subscription"}, "the envelope of a push subscription: publish message.data, with message.attributes"),
    ({"Records"}, "an event of AWS; of stores only Cloud Storage is known"),
    ({"detail-type", "detail"}, "an event of AWS; of stores only Cloud Storage is known"),
    ({"TopicArn"}, "a message of AWS SNS: publish what is in it"),
    ({"protoPayload"}, "an entry of the audit log; a notification of Cloud Storage is known"),
    ({"cloudEventsVersion"}, "a CloudEvent 0.1; 0.2 and later are known"),
    ({"kind", "bucket", "name"}, "an object of Cloud Storage without its notification's eventType, bucketId, objectId"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Fields of a request, found in a message's data; content as bytes. `upload`: the event reports an upload."""

    fields: Mapping[str, Any]
    upload: bool = False


def event_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """A CloudEvent's own attributes, in binary mode: name, small → value. The spelling of the standard wins."""
    names = sorted(name for name in attributes if name[:1] in ("c", "C"))
    found = {name[match.end() :].lower(): name for name in names if (match := _PREFIX.match(name))}
    return {name: attributes.get(f"ce-{name}", attributes[spelled]) for name, spelled in found.items()}


def is_event_attribute(name: str) -> bool:
    """True for an attribute that may say what event a message is."""
    return name in NOTICE_ATTRIBUTES or _PREFIX.match(name) is not None


def is_notice(attributes: Mapping[str, str]) -> bool:
    """True for a notification of Cloud Storage."""
    return "eventType" in attributes and "bucketId" in attributes


def notice(attributes: Mapping[str, str], data: bytes) -> Said:
    """The request that a notification of Cloud Storage makes. Raises NoRequest."""
    event = attributes["eventType"].lower()
    if event in NO_UPLOADS:
        ignore(NO_UPLOADS[event])
    if event != UPLOADED:
        reject("unsupported_event", f"eventType: {attributes['eventType'][:100]} is not known")
    if not attributes.get("objectId"):
        reject("invalid_request", "objectId: is missing from a Cloud Storage notification")
    described = _description(data, attributes["objectId"])
    generation = attributes.get("objectGeneration") or described.get("generation")
    return _upload(attributes["bucketId"], attributes["objectId"], generation, size=described.get("size"))


def storage_event(event: str, thing: Any) -> Said:
    """The request that a CloudEvent of Cloud Storage makes; `thing`: its data. Raises NoRequest."""
    check_storage_event(event)
    if not isinstance(thing, dict):
        reject("malformed_json", "data: of a Cloud Storage event is a JSON object")
    bucket, name = thing.get("bucket"), thing.get("name")
    if not isinstance(bucket, str) or not isinstance(name, str) or not bucket or not name:
        reject("invalid_request", "bucket, name: are missing from a Cloud Storage event")
    return _upload(bucket, name, thing.get("generation"), size=thing.get("size"))


def check_storage_event(event: str) -> None:
    """Raises NoRequest for a type of event that is no upload, whatever its data."""
    if event.lower() in NO_UPLOAD_TYPES:
        ignore(NO_UPLOAD_TYPES[event.lower()])
    if event.lower() != UPLOADED_TYPE:
        reject("unsupported_event", f"type: only {UPLOADED_TYPE} asks for a prediction, not {event[:100]}")


def is_storage_event(event: str) -> bool:
    """True for a type of event that is Cloud Storage's."""
    return event.lower().startswith(STORAGE)


def check_known(event: str, document: Mapping[str, Any]) -> None:
    """Raises NoRequest for a JSON object that is known to be something else than a request; `event`: its type, or
    nothing.
    """
    for prefix, what in FOREIGN_TYPES.items():
        if event.lower().startswith(prefix):
            reject("unsupported_event", f"type: {event[:100]} is {what}")
    for names, what in FOREIGN:
        if names <= document.keys():
            reject("unsupported_event", f"{', '.join(sorted(names))}: {what}")


def is_structured(document: Any) -> TypeGuard[dict[str, Any]]:
    """True for a CloudEvent that is written as JSON."""
    return isinstance(document, dict) and EVENT in document


def structured(event: Mapping[str, Any]) -> Said:
    """The fields that the data of such a CloudEvent gives. Raises NoRequest."""
    kind, content_type = (_text(event.get(name)).lower() for name in ("type", "datacontenttype"))
    if is_storage_event(kind):
        check_storage_event(kind)
    data, inline = event.get("data"), event.get("data_base64")
    if event.get("datacontentencoding") == "base64":  # CloudEvents 0.3
        data, inline = inline, data
    if data is not None and inline is not None:
        reject("invalid_request", "data, data_base64: expected one of them")
    if inline is not None:
        content = _decoded(inline)
        if not (is_storage_event(kind) or "json" in content_type):
            return Said(fields={"data": content})
        data = _json(content)
    if data is None:
        reject("no_content", "data: the CloudEvent has none")
    if isinstance(data, str) and content_type.startswith("text/"):
        return Said(fields={"data": _encoded(data)})
    return storage_event(kind, data) if is_storage_event(kind) else _request_in(kind, data)


def _request_in(kind: str, data: Any) -> Said:
    if not isinstance(data, dict):
        reject("invalid_request", "data: of a CloudEvent is an object, the request; content belongs in data_base64")
    if is_structured(data):
        reject("invalid_request", "data: is a CloudEvent in a CloudEvent")
    check_known(kind, data)
    return Said(fields=data)


def _upload(bucket: str, name: str, generation: Any, *, size: Any) -> Said:
    if not bucket or "/" in bucket:
        reject("invalid_request", "bucket: is no name of a bucket")
    if name.endswith("/"):
        ignore("folder")
    if size in ("0", 0) and not isinstance(size, bool):
        ignore("empty")
    return Said(
        fields={"uri": f"gs://{bucket}/{name}", "generation": None if generation == "" else generation}, upload=True
    )


def _description(data: bytes, name: str) -> Mapping[str, Any]:
    """What a notification says of its object; nothing, as some do, or what is not about it."""
    try:
        thing = read(data) if begin(data) == "{" else {}
    except Malformed:
        return {}
    return thing if thing.get("name", name) == name else {}


def _json(data: bytes) -> Any:
    try:
        return read(data)
    except Malformed as error:
        reject("malformed_json", f"data_base64: {error}")


def _decoded(value: Any) -> bytes:
    if not isinstance(value, str):
        reject("invalid_request", "data_base64: expected base64 text")
    try:
        return base64.b64decode(canonical(value))
    except ValueError as error:
        reject("invalid_request", f"data_base64: {error}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        reject("invalid_request", "data: has half a surrogate pair, which is no text")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

import base64
import gzip
import json
from typing import Any

import pytest

from lowtide.bridge.messages.kinds import Ignored, Received, Rejection, Translated
from lowtide.bridge.messages.translate import Rules, claimed_id, translate
from lowtide.config import load_settings
from tests.unit.bridge.received import message

RULES = Rules.of(load_settings(project="p", models="a,b", default_model="b", reply_topics="mine"))
NO_DEFAULT = Rules.of(load_settings(project="p", models="a,b", reply_topics="mine"))
FINALIZED = "google.cloud.storage.object.v1.finalized"
JPEG = b"\xff\xd8\xff\xe0 jpeg"
ASKS = {"model": "a", "uri": "gs://b/o"}
EVENT = {"specversion": "1.0", "id": "e-1", "source": "/x", "type": "com.example.upload"}
CONTENT_TYPES = [{}, {"content-type": "application/cloudevents+json"}, {"Content-Type": "application/json"}]


def accepted(received: Received, rules: Rules = RULES) -> Translated:
    item = translate(received, rules)
    assert isinstance(item, Translated), item
    return item


def rejected(received: Received, rules: Rules = RULES) -> Rejection:
    item = translate(received, rules)
    assert isinstance(item, Rejection), item
    return item


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # tests have the same names in every process


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("prefix", ["ce-", "ce_", "CE-", "Ce_", "cloudEvents:", "cloudEvents_", "ce."])
def test_binary_mode_is_understood_in_every_spelling(prefix: str) -> None:
    event = {f"{prefix}{name}": value for name, value in EVENT.items()}
    raw = accepted(message(JPEG, **event, **{f"{prefix}model": "a", f"{prefix}replytopic": "mine"}), NO_DEFAULT)
    assert (raw.request.content(), raw.request.model) == (JPEG, "a")
    assert raw.reply_topic == "projects/p/topics/mine"

    upload = message({"bucket": "u", "name": "o", "generation": 5}, **{**event, f"{prefix}type": FINALIZED})
    assert (accepted(upload).request.uri, accepted(upload).request.generation) == ("gs://u/o", "5")


def test_the_standards_spelling_wins() -> None:
    assert accepted(message(JPEG, **{"ce_model": "b", "ce-model": "a", "CE-MODEL": "b"})).request.model == "a"


@pytest.mark.parametrize("beside", CONTENT_TYPES)
@pytest.mark.parametrize("version", ["0.2", "0.3", "1.0"])
def test_a_structured_event_is_what_its_data_is(version: str, beside: dict[str, str]) -> None:
    event = {**EVENT, "specversion": version}
    asks = accepted(message({**event, "data": {**ASKS, "request_id": "mine"}}, **beside), NO_DEFAULT)
    assert (asks.request.uri, asks.request.model, asks.request_id) == ("gs://b/o", "a", "mine")

    picture = {**event, "datacontenttype": "image/jpeg", "model": "a", "requestid": "r"}
    spelling = {"data": b64(JPEG), "datacontentencoding": "base64"} if version == "0.3" else {"data_base64": b64(JPEG)}
    content = accepted(message({**picture, **spelling}, **beside), NO_DEFAULT)
    assert (content.request.content(), content.request_id) == (JPEG, "r")


def test_an_extension_is_a_default_for_the_data_and_wins_over_an_attribute() -> None:
    event = {**EVENT, "model": "a", "params": '{"k": 1}', "priority": "high", "expiresat": None, "replytopic": "mine"}
    request = accepted(message({**event, "data": {"uri": "gs://b/o"}}, model="b", priority="normal")).request
    assert (request.model, request.params, request.priority) == ("a", {"k": 1}, "high")
    assert accepted(message({**event, "data": {**ASKS, "model": "b"}})).request.model == "b"
    assert accepted(message({**event, "data": {**ASKS, "model": None}})).request.model == "a"


@pytest.mark.parametrize("beside", [{}, {"model": "a"}])
def test_bytes_in_an_event_are_content_unless_it_calls_them_json(beside: dict[str, str]) -> None:
    inside = json.dumps({"model": "b", "uri": "gs://secret/o"}).encode()
    event = {**EVENT, "data_base64": b64(inside)}

    assert accepted(message(event, **beside)).request.content() == inside
    assert accepted(message({**event, "datacontenttype": "image/png"}, **beside)).request.content() == inside
    asks = accepted(message({**event, "datacontenttype": "application/json"}, **beside))
    assert asks.request.uri == "gs://secret/o"


def test_text_in_an_event_is_content_if_it_is_called_text() -> None:
    event = {**EVENT, "data": "grüße"}
    assert accepted(message({**event, "datacontenttype": "text/plain"})).request.content() == "grüße".encode()
    assert "content belongs in data_base64" in rejected(message(event)).message
    assert rejected(message({**event, "datacontenttype": "text/plain", "data": "\ud800"})).reason == "invalid_request"


def test_uploads_and_other_events_of_cloud_storage_come_structured_too() -> None:
    thing = {"bucket": "u", "name": "o", "generation": "5", "size": "3"}
    event = {**EVENT, "type": FINALIZED, "data": thing}

    assert accepted(message(event)).request.uri == "gs://u/o"
    assert accepted(message({**event, "data": None, "data_base64": b64(json.dumps(thing).encode())})).request.uri
    assert translate(message({**event, "data": {**thing, "name": "o/"}}), RULES) == Ignored(why="folder")
    deleted = {**event, "type": FINALIZED.replace("finalized", "deleted"), "data": None}
    assert translate(message(deleted, params="{"), NO_DEFAULT) == Ignored(why="deleted")
    assert rejected(message({**event, "data": [1]})).reason == "malformed_json"


def test_a_batch_of_one_is_that_one_and_a_batch_of_several_is_refused() -> None:
    event = {**EVENT, "data": ASKS}
    for beside in ({}, {"model": "b"}, {"content-type": "application/cloudevents-batch+json"}):
        assert accepted(message([event], **beside)).request.uri == "gs://b/o"
        rejection = rejected(message([event, event], **beside))
        assert rejection.reason == "invalid_request"
        assert rejection.message == "data: a batch of 2 CloudEvents: publish each as a message of its own"


@pytest.mark.parametrize(
    ("event", "reason", "words"),
    [
        ({}, "no_content", "data: the CloudEvent has none"),
        ({"data": [1]}, "invalid_request", "data: of a CloudEvent is an object"),
        ({"data": {}, "data_base64": "ew=="}, "invalid_request", "data, data_base64: expected one of them"),
        ({"data": {**EVENT, "data": {}}}, "invalid_request", "data: is a CloudEvent in a CloudEvent"),
        ({"data_base64": "a b"}, "invalid_request", "data_base64: not base64"),
        ({"data_base64": 5}, "invalid_request", "data_base64: expected base64 text"),
        ({"data_base64": "ew==", "datacontenttype": "application/json"}, "malformed_json", "data_base64: not JSON"),
        ({"data": {"model": "a", "url": "x"}}, "invalid_request", "url: is not a field of a request (is uri meant?)"),
        ({"data": {**ASKS}, "params": "{"}, "invalid_request", "params: not JSON"),
    ],
)
def test_an_event_that_asks_for_nothing_that_can_be_read_says_why(
    event: dict[str, Any], reason: str, words: str
) -> None:
    rejection = rejected(message({**EVENT, **event}))
    assert rejection.reason == reason
    assert words in rejection.message


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (message({"message": {"data": "e30=", "messageId": "1"}, "subscription": "s"}), "envelope of a push"),
        (message({"Records": [{"eventSource": "aws:s3"}]}), "Records: an event of AWS"),
        (message({"source": "aws.s3", "detail-type": "Object Created", "detail": {}}), "an event of AWS"),
        (message({"Type": "Notification", "TopicArn": "arn:"}), "AWS SNS"),
        (message({"protoPayload": {}, "logName": "l"}), "an entry of the audit log"),
        (message({"cloudEventsVersion": "0.1", "eventType": "t"}), "a CloudEvent 0.1"),
        (message({"kind": "storage#object", "bucket": "b", "name": "o"}), "without its notification's eventType"),
        (message({"x": 1}, ce__type="google.cloud.audit.log.v1.written"), FINALIZED),
        (message({**EVENT, "type": "google.cloud.audit.log.v1.written", "data": {"x": 1}}), FINALIZED),
        (message({**EVENT, "type": "google.cloud.storage.bucket.v1.made", "data": {}}), FINALIZED),
        (message({"x": 1}, ce__type="Microsoft.Storage.BlobCreated"), "an event of Azure"),
    ],
)
def test_what_is_known_to_be_something_else_is_named(received: Received, words: str) -> None:
    rejection = rejected(received)
    assert rejection.reason == "unsupported_event"
    assert words in rejection.message


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd"])
@pytest.mark.parametrize("name", ["content-encoding", "Content-Encoding", "content_encoding"])
def test_what_data_is_packed_with_is_named_when_it_is_not_unpacked(name: str, coding: str) -> None:
    assert f"content-encoding: {coding} is not unpacked" in rejected(message(b"\x0b\x02", **{name: coding})).message
    assert accepted(message(b"\x0b\x02", model="a", **{name: coding})).request.content() == b"\x0b\x02"
    assert accepted(message(b"\x0b\x02", lowtide_content="raw", **{name: coding})).request.content() == b"\x0b\x02"


@pytest.mark.parametrize("kind", ["application/cloudevents+avro", "application/cloudevents+json; charset=utf-8"])
def test_what_is_called_an_event_and_is_none_in_json_is_named(kind: str) -> None:
    for beside in ({}, {"model": "a"}):
        rejection = rejected(message(JPEG, **{"Content-Type": kind}, **beside))
        assert rejection.message == f"content-type: {kind}, and the data is no CloudEvent in JSON"


def test_a_schemas_binary_encoding_is_named() -> None:
    binary = {"googclient_schemaencoding": "BINARY"}
    assert rejected(message(b"\x0cdigits\x02", **binary)).message.startswith("googclient_schemaencoding: BINARY is not")
    assert accepted(message(b"\x0cdigits\x02", model="a", **binary)).request.content() == b"\x0cdigits\x02"
    assert accepted(message(ASKS, googclient_schemaencoding="JSON")).request.uri == "gs://b/o"


@pytest.mark.parametrize("beside", [{}, {"content-encoding": "gzip"}, {"model": "b"}, {"content-encoding": "utf-8"}])
def test_packed_json_is_a_request_and_packed_content_stays_as_it_came(beside: dict[str, str]) -> None:
    assert accepted(message(packed(json.dumps(ASKS).encode()), **beside)).request.uri == "gs://b/o"
    assert accepted(message(packed(JPEG), **beside)).request.content() == packed(JPEG)


def test_json_in_a_json_text_is_named_and_other_text_is_content() -> None:
    twice = json.dumps(json.dumps(ASKS)).encode()
    assert rejected(message(twice)) == Rejection(
        reason="malformed_json", message="data: JSON in a JSON text: it was encoded twice"
    )
    for content in (b'"a word"', b'"half', b'"x" is "y"'):
        assert accepted(message(content)).request.content() == content
    assert accepted(message(twice, model="a")).request.content() == twice


def test_an_array_says_that_a_message_is_one_request() -> None:
    assert rejected(message([ASKS, ASKS])).message == (
        "data: an array of 2: expected a JSON object, one request a message"
    )


@pytest.mark.parametrize(
    ("data", "claimed"),
    [
        ({"request_id": "r"}, "r"),
        ({"request_id": 4711}, "4711"),
        ({"request_id": 4711.5}, "4711.5"),
        ({"requestId": "r"}, "r"),
        ({"request_id": True}, "beside"),
        ({"request_id": ["r"]}, "beside"),
        ({"request_id": ""}, "beside"),
        ({**EVENT, "data": {"request_id": "r"}}, "r"),
        ({**EVENT, "requestid": "r", "data": {}}, "r"),
        ({**EVENT, "data": 5}, "beside"),
        ([{"request_id": "r"}], "beside"),
        (packed(b'{"request_id": "r"}'), "r"),
        ('\ufeff{"request_id": "r"}'.encode("utf-16-le"), "r"),
        (b"{", "beside"),
    ],
)
def test_a_message_that_is_no_request_keeps_the_id_that_it_was_given(data: Any, claimed: str) -> None:
    assert claimed_id(message(data, request_id="beside")) == claimed
    assert claimed_id(message(data, ce_requestid="beside")) == claimed
    assert claimed_id(message(data)) == (claimed if claimed != "beside" else "17")

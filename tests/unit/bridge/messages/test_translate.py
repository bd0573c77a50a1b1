import base64
import gzip
import json
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.bridge.messages.kinds import Ignored, Received, Rejection, Translated
from lowtide.bridge.messages.translate import Rules, translate
from lowtide.config import load_settings
from lowtide.tasks import InferenceRequest
from tests.unit.bridge.received import message, received

STORAGE = "google.cloud.storage."
FINALIZED = f"{STORAGE}object.v1.finalized"
SETTINGS = load_settings(project="p", models="a,b", reply_topics="mine,projects/other/topics/theirs")
RULES = Rules.of(SETTINGS)
WITH_DEFAULT = Rules.of(load_settings(project="p", models="a,b", default_model="b"))


DEEP = '{"k": ' + "[" * 300 + "]" * 300 + "}"
DEEP_PARAMS = b'{"model": "a", "uri": "x", "params": ' + DEEP.encode() + b"}"


def accepted(received: Received, rules: Rules = RULES) -> Translated:
    item = translate(received, rules)
    assert isinstance(item, Translated), item
    return item


def rejected(received: Received, rules: Rules = RULES) -> Rejection:
    item = translate(received, rules)
    assert isinstance(item, Rejection), item
    return item


def test_a_json_object_is_a_request() -> None:
    item = accepted(message({"model": "a", "uri": "gs://b/cat.jpg", "params": {"k": 3}}))

    assert (item.request.model, item.request.uri, item.request.params) == ("a", "gs://b/cat.jpg", {"k": 3})
    assert item.request_id == "17"
    assert item.reply_topic == "projects/p/topics/lowtide-results"


@pytest.mark.parametrize(
    "data", [b'\xef\xbb\xbf{"model": "a", "uri": "gs://b/c"}', b' \n{"model": "a", "uri": "gs://b/c"}']
)
def test_json_may_begin_with_blanks_or_a_byte_order_mark(data: bytes) -> None:
    assert accepted(message(data)).request.uri == "gs://b/c"


def test_raw_bytes_with_a_model_attribute_are_the_content() -> None:
    item = accepted(message(b"\xff\xd8\xff\xe0 jpeg", model="a", params='{"k": 1}', request_id="r", priority="high"))

    assert item.request.content() == b"\xff\xd8\xff\xe0 jpeg"
    assert (item.request.params, item.request_id, item.request.priority) == ({"k": 1}, "r", "high")


def test_raw_bytes_without_a_model_get_the_default_model() -> None:
    assert accepted(message(b"\x89PNG"), WITH_DEFAULT).request.model == "b"


@pytest.mark.parametrize("data", [b"{not json}", b"[1, 2]", b'{"half": '])
def test_content_that_begins_like_json_is_content_when_an_attribute_names_the_model(data: bytes) -> None:
    assert accepted(message(data, model="a")).request.content() == data


def test_where_data_and_attribute_differ_the_data_wins() -> None:
    data = {"model": "a", "uri": "gs://b/c", "request_id": "data", "priority": None}
    item = accepted(message(data, model="b", request_id="attribute", priority="high"))

    assert (item.request.model, item.request_id, item.request.priority) == ("a", "data", "high")


@pytest.mark.parametrize("part", [b"[]", b"{}", b"0"])
@pytest.mark.parametrize("pack", [bytes, partial(gzip.compress, mtime=0)], ids=["plain", "packed"])
@pytest.mark.parametrize("attributes", [{}, {"model": "a"}])
def test_json_of_so_many_parts_that_it_takes_memory_is_refused(
    part: bytes, pack: Callable[[bytes], bytes], attributes: dict[str, str]
) -> None:
    data = pack(b'{"model": "a", "data": "aGk=", "params": {"a": [' + b",".join([part] * 2_000_000) + b"]}}")
    tracemalloc.start()
    try:
        rejection = rejected(message(data, **attributes))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert rejection.reason == "invalid_request"
    assert "lowtide_content=raw" in rejection.message
    assert peak_bytes < 40_000_000


@pytest.mark.parametrize("value", [0, False, [], {}, 0.0])
def test_what_is_no_model_or_generation_is_not_taken_for_none(value: object) -> None:
    event = {"specversion": "1.0", "type": FINALIZED, "data": {"bucket": "b", "name": "n", "generation": value}}
    for field, data in (("model", {"model": value, "data": "aGk="}), ("generation", event)):
        rejection = rejected(message(data), WITH_DEFAULT)
        assert (rejection.reason, rejection.message.partition(":")[0]) == ("invalid_request", field)


def test_an_upload_asks_for_the_default_model() -> None:
    received = message({"kind": "storage#object"}, eventType="OBJECT_FINALIZE", bucketId="b", objectId="a b/ü#1.jpg")

    assert accepted(received, WITH_DEFAULT).request.uri == "gs://b/a b/ü#1.jpg"
    assert rejected(received).reason == "no_model"


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("OBJECT_DELETE", "deleted"),
        ("OBJECT_ARCHIVE", "archived"),
        ("OBJECT_METADATA_UPDATE", "metadata_updated"),
        ("object_delete", "deleted"),
    ],
)
def test_other_events_of_cloud_storage_ask_for_nothing(event: str, why: str) -> None:
    beside = {"params": "{", "model": "gone", "overwrittenByGeneration": "5"}
    for data in ({}, b"", b"{half"):
        received = message(data, eventType=event, bucketId="b", objectId="o", **beside)
        assert translate(received, RULES) == Ignored(why=why)


def test_an_event_that_nobody_knows_is_a_dead_letter() -> None:
    rejection = rejected(message({}, eventType="OBJECT_RENAME", bucketId="b", objectId="o"), WITH_DEFAULT)
    assert rejection == Rejection(reason="unsupported_event", message="eventType: OBJECT_RENAME is not known")


@pytest.mark.parametrize("name", ["a/", "a//", "/"])
def test_a_folder_asks_for_nothing(name: str) -> None:
    upload = message(b"", eventType="OBJECT_FINALIZE", bucketId="b", objectId=name)
    assert translate(upload, WITH_DEFAULT) == Ignored(why="folder")
    assert translate(message({"bucket": "b", "name": name}, ce__type=FINALIZED), WITH_DEFAULT) == Ignored(why="folder")


@pytest.mark.parametrize("size", ["0", 0])
def test_an_object_of_no_bytes_asks_for_nothing(size: str | int) -> None:
    thing = {"kind": "storage#object", "bucket": "b", "name": "o", "size": size, "contentType": "image/png"}
    upload = {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "o"}

    assert translate(message(thing, **upload), RULES) == Ignored(why="empty")
    assert translate(message(thing, ce__type=FINALIZED), RULES) == Ignored(why="empty")
    assert accepted(message({**thing, "size": "1"}, **upload), WITH_DEFAULT).request.uri == "gs://b/o"
    assert accepted(message({**thing, "name": "other"}, **upload), WITH_DEFAULT).request.uri == "gs://b/o"


@pytest.mark.parametrize("overwrote", [{}, {"overwroteGeneration": "1767225600000001"}])
def test_an_upload_is_about_one_generation(overwrote: dict[str, str]) -> None:
    upload = {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "o", "objectGeneration": "1767225600000002"}
    thing = {"bucket": "b", "name": "o", "generation": "1767225600000002", "size": "5"}
    request = InferenceRequest(model="b", uri="gs://b/o", generation="1767225600000002")

    assert accepted(message(b"", **upload, **overwrote), WITH_DEFAULT).request == request
    assert accepted(message(thing, ce__type=FINALIZED), WITH_DEFAULT).request == request
    structured = {"specversion": "1.0", "type": FINALIZED, "source": "/s", "id": "1", "data": thing}
    assert accepted(message(structured), WITH_DEFAULT).request == request
    for said in (message(b"", **upload), message(thing, ce__type=FINALIZED), message(structured)):
        assert accepted(said, WITH_DEFAULT).is_upload
    assert not accepted(message({"uri": "gs://b/o", "generation": 5}), WITH_DEFAULT).is_upload
    del upload["objectGeneration"]
    assert accepted(message(thing, **upload), WITH_DEFAULT).request == request
    assert accepted(message(b"", **upload), WITH_DEFAULT).request.generation is None


def test_a_bucket_that_is_none_does_not_lead_to_another_object() -> None:
    for bucket in ("a/b", ""):
        upload = message(b"", eventType="OBJECT_FINALIZE", bucketId=bucket, objectId="o")
        assert rejected(upload, WITH_DEFAULT).reason == "invalid_request"


@pytest.mark.parametrize("name", ["a#1", "a?generation=5", "100%", "a//b", "/a", "ü ✓", "a\nb", "gs://b/o"])
def test_whatever_a_name_holds_it_is_the_name(name: str) -> None:
    upload = message(b"", eventType="OBJECT_FINALIZE", bucketId="b", objectId=name, objectGeneration="7")
    request = accepted(upload, WITH_DEFAULT).request
    assert (request.uri, request.generation) == (f"gs://b/{name}", "7")


def test_custom_attributes_of_a_notification_are_defaults() -> None:
    upload = {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "o", "payloadFormat": "JSON_API_V1"}
    request = accepted(message({}, **upload, model="a", params='{"k": 1}'), WITH_DEFAULT).request
    assert (request.model, request.params) == ("a", {"k": 1})


def test_a_notification_without_an_object_says_so() -> None:
    rejection = rejected(message(b"", eventType="OBJECT_FINALIZE", bucketId="b"), WITH_DEFAULT)
    assert rejection == Rejection(
        reason="invalid_request", message="objectId: is missing from a Cloud Storage notification"
    )


def test_a_cloud_event_carries_json_or_raw_bytes() -> None:
    binary = {"ce__specversion": "1.0", "ce__id": "1", "ce__type": "com.example.upload", "ce__source": "/x"}

    assert accepted(message({"model": "a", "uri": "gs://b/c"}, **binary)).request.uri == "gs://b/c"
    raw = accepted(message(b"\xff\xd8", **binary, ce__model="a", ce__replytopic="mine", ce__traceparent="00-1"))
    assert raw.request.content() == b"\xff\xd8"
    assert (raw.reply_topic, raw.request.traceparent) == ("projects/p/topics/mine", "00-1")


def test_a_cloud_event_of_cloud_storage_is_an_upload() -> None:
    assert accepted(message({"bucket": "b", "name": "o"}, ce__type=FINALIZED), WITH_DEFAULT).request.uri == "gs://b/o"
    for kind, why in {"deleted": "deleted", "archived": "archived", "metadataUpdated": "metadata_updated"}.items():
        assert translate(message({}, ce__type=f"{STORAGE}object.v1.{kind}"), WITH_DEFAULT) == Ignored(why=why)
    assert rejected(message({}, ce__type=f"{STORAGE}object.v1.moved"), WITH_DEFAULT).reason == "unsupported_event"
    assert rejected(message({"bucket": 1}, ce__type=FINALIZED), WITH_DEFAULT).reason == "invalid_request"
    assert rejected(message(b"x", ce__type=FINALIZED), WITH_DEFAULT).reason == "malformed_json"
    assert rejected(message(b"{", ce__type=FINALIZED, model="a"), WITH_DEFAULT).reason == "malformed_json"


@pytest.mark.parametrize(
    "data",
    [
        b'{"model": "a", ',
        b'{"model": "\xff\xfe"}',
        b'[{"model": "a", "uri": "gs://b/c"}]',
        b'{"model": "a", "uri": "gs://b/c", "params": {"k": NaN}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"params": ' + b"9" * 5000 + b"}",
    ],
    ids=["cut", "not UTF-8", "array", "NaN", "deep array", "deep object", "long number"],
)
def test_malformed_json_is_told_apart_from_content(data: bytes) -> None:
    assert rejected(message(data)).reason == "malformed_json"
    assert rejected(message(data), WITH_DEFAULT).reason == "malformed_json"


@pytest.mark.parametrize(
    ("received", "reason", "words"),
    [
        (message({"uri": "gs://b/c"}), "no_model", "LOWTIDE_DEFAULT_MODEL"),
        (message(b"\xff\xd8"), "no_model", "LOWTIDE_DEFAULT_MODEL"),
        (message(b""), "no_content", "data"),
        (message(b"", model="a"), "no_content", "data"),
        (message({"model": "c", "uri": "gs://b/c"}), "unknown_model", "c is not served here; served are a, b"),
        (message({"model": "a"}), "invalid_request", "uri, data: give exactly one of them"),
        (message({"model": "a", "uri": "x", "data": "eA=="}), "invalid_request", "uri, data: give exactly one"),
        (message({"model": "a", "uri": "x", "priority": "urgent"}), "invalid_request", "priority: "),
        (message({"model": "a", "uri": "x", "expires_at": "tomorrow"}), "invalid_request", "expires_at: "),
        (message({"model": "a", "uri": "x", "expires_at": "2026-01-01T00:00:00"}), "invalid_request", "expires_at: "),
        (message({"model": "a", "uri": "x", "url": "y"}), "invalid_request", "url: is not a field of a request"),
        (message({"model": 5, "uri": "x"}), "invalid_request", "model: "),
        (message({"model": "a", "uri": "x", "params": [1]}), "invalid_request", "params: "),
        (message({"model": "a", "uri": "x"}, params="{"), "invalid_request", "params: not JSON"),
        (message({"model": "a", "uri": "x"}, params="[" * 100_000), "invalid_request", "params: nested too deeply"),
        (message(DEEP_PARAMS), "invalid_request", "params: can't be sent as JSON"),
        (message({"model": "a", "uri": "x"}, params=DEEP), "invalid_request", "params: can't be sent as JSON"),
        (message(data=b"x", model="a", params=DEEP), "invalid_request", "params: can't be sent as JSON"),
        (
            message({"model": "a", "uri": "x"}, params='{"k": {"\\ud800": 1}}'),
            "invalid_request",
            "params: can't be sent",
        ),
        (message({"model": "a", "uri": "x", "params": {"\ud800": 1}}), "invalid_request", "params: can't be sent"),
        (message({"model": "a", "uri": "x"}, request_id="é" * 600), "invalid_request", "request_id: "),
        (message({"model": "a", "uri": "\ud800"}), "invalid_request", "uri: "),
        (message({"model": "a", "uri": "x", "reply_topic": "no"}), "reply_topic_not_allowed", "reply_topic: no is not"),
        (message({"model": "a", "uri": "x"}, reply_topic="theirs"), "reply_topic_not_allowed", "reply_topic: theirs"),
    ],
)
def test_what_is_no_request_is_rejected_by_name(received: Received, reason: str, words: str) -> None:
    rejection = rejected(received)

    assert rejection.reason == reason
    assert words in rejection.message


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("mine", "projects/p/topics/mine"),
        ("projects/p/topics/mine", "projects/p/topics/mine"),
        ("projects/other/topics/theirs", "projects/other/topics/theirs"),
        ("lowtide-results", "projects/p/topics/lowtide-results"),
    ],
)
def test_an_allowed_reply_topic_may_be_given_short_or_in_full(name: str, full: str) -> None:
    assert accepted(message({"model": "a", "uri": "x", "reply_topic": name})).reply_topic == full


def test_a_hundred_attributes_do_no_harm() -> None:
    item = accepted(message({"model": "a", "uri": "x"}, **{f"n{index}": "v" * 1024 for index in range(100)}))
    assert item.request.uri == "x"


def test_a_message_of_nearly_ten_megabytes_travels_as_it_is() -> None:
    data = bytes(range(256)) * 38_671  # 9.9 MB

    assert accepted(message(data, model="a")).request.content() == data
    inline = {"model": "a", "data": base64.b64encode(data[:7_000_000]).decode()}
    assert accepted(message(inline)).request.content() == data[:7_000_000]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["model", "uri", "data", "params", "request_id", "expires_at", "priority", "reply_topic", "traceparent", "else"]
)
ATTRIBUTES = st.sampled_from(["model", "params", "expires_at", "eventType", "bucketId", "objectId", "ce-type", "x-a"])
BODY = st.binary() | st.dictionaries(FIELDS, JSON | st.just("a")).map(lambda body: json.dumps(body).encode())


@given(data=BODY, attributes=st.dictionaries(ATTRIBUTES, st.text()))
def test_whatever_comes_is_translated_or_rejected(data: bytes, attributes: dict[str, str]) -> None:
    assert isinstance(
        translate(received(data=data, attributes=attributes), WITH_DEFAULT), Translated | Rejection | Ignored
    )

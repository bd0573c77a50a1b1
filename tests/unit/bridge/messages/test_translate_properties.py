import base64
import json
import math
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from kombu.utils.json import dumps, loads

from lowtide.bridge.messages.chunk import to_chunk
from lowtide.bridge.messages.dead_letter import dead_letter
from lowtide.bridge.messages.kinds import OutgoingMessage, Received, Rejection, Translated
from lowtide.bridge.messages.reasons import REASONS
from lowtide.bridge.messages.result import result_message
from lowtide.bridge.messages.translate import ATTRIBUTES, Rules, claimed_id, translate
from lowtide.bridge.pubsub.client import PublishRequest, message_of
from lowtide.config import load_settings
from lowtide.local.pubsub import limits
from lowtide.local.pubsub.resources import Content
from lowtide.tasks.chunks.blob import apart, together
from lowtide.tasks.wire.outcome import Outcome, RequestError, Status
from lowtide.tasks.wire.request import InferenceRequest

RULES = Rules.of(load_settings(project="p", models="a,b", reply_topics="mine"))
WITH_DEFAULT = Rules.of(load_settings(project="p", models="a,b", default_model="b"))
TOPIC = "projects/p/topics/t"
RESULT_MAX_BYTES = 1000
SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[4] / "docs/schemas/result.json").read_text()))

TEXT = st.text(min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARAMS = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
OFFSETS = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(timezones=OFFSETS).map(lambda time: time.isoformat())

ODD_TEXT = st.text(st.characters(), max_size=5) | st.sampled_from(["\ud800", "a\udfff"])
"""With halves of surrogate pairs: Python's JSON takes them, UTF-8 doesn't."""
ODD_PARAMS = st.dictionaries(
    ODD_TEXT,
    st.recursive(
        st.integers() | ODD_TEXT | st.floats(allow_nan=False) | st.integers(1, 1000).map(lambda depth: _nested(depth)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["a", "b"]),
    "params": PARAMS,
    "request_id": TEXT,
    "expires_at": TIMES,
    "priority": st.sampled_from(["high", "normal"]),
    "reply_topic": st.sampled_from(["mine", "lowtide-results", "projects/p/topics/mine"]),
    "traceparent": TEXT,
}
FIELDS = st.fixed_dictionaries({"model": VALUES["model"]}, optional={n: v for n, v in VALUES.items() if n != "model"})
URIS = st.fixed_dictionaries({"uri": TEXT.filter(lambda uri: not uri.lower().startswith("data:"))})
INLINE = st.binary(max_size=50).map(lambda content: {"data": base64.b64encode(content).decode()})

PUBSUB_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
PUBSUB_VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=1024).filter(
    lambda v: len(v.encode()) <= 1024
)
KNOWN_NAMES = st.sampled_from(
    [*ATTRIBUTES, "ce-type", "ce-replytopic", "eventType", "bucketId", "objectId", "x-a", "lowtide_reason", "googx"]
)
KNOWN_VALUES = st.sampled_from(
    ["a", "mine", "high", "{}", "OBJECT_FINALIZE", "google.cloud.storage.object.v1.finalized", "2026-01-31T12:00:00Z"]
)
ANY_ATTRIBUTES = st.dictionaries(KNOWN_NAMES, KNOWN_VALUES | PUBSUB_VALUES) | st.dictionaries(
    PUBSUB_NAMES, PUBSUB_VALUES, max_size=5
)
LOOSE = st.dictionaries(
    st.sampled_from([*ATTRIBUTES, "uri", "data", "bucket", "name", "else"]), JSON | KNOWN_VALUES | st.just(float("nan"))
)
ANY_DATA = st.binary(max_size=50) | (LOOSE | JSON).map(lambda body: json.dumps(body).encode())


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def repeated(text: str, up_to: int) -> st.SearchStrategy[str]:
    """As long as text gets: left to itself, hypothesis keeps to short ones."""
    return st.builds(lambda part, times: part * times, st.sampled_from(text), st.integers(0, up_to))


LONG = repeated("aé✓🙂\ud800", 1500)


def many(prefix: str) -> st.SearchStrategy[dict[str, str]]:
    """Up to 100 attributes, of short names or long, and values as long as may be."""
    values = repeated("aé", 512)
    return st.builds(
        lambda count, width, value: {f"{prefix}{number:0{width}}": value for number in range(count)},
        st.sampled_from([0, 1, 95, 96, 97, 100]),
        st.sampled_from([3, 250]),
        values,
    )


def received(data: bytes, attributes: dict[str, str]) -> Received:
    return Received(subscription="s", ack_id="k", message_id="17", data=data, attributes=attributes, published_s=1000.0)


def accepted(data: bytes, attributes: dict[str, str], rules: Rules = RULES) -> Translated:
    item = translate(received(data, attributes), rules)
    assert isinstance(item, Translated), item
    return item


def as_attributes(fields: dict[str, Any], prefix: str = "") -> dict[str, str]:
    said = {name: json.dumps(value) if name == "params" else value for name, value in fields.items()}
    return {prefix + (name.replace("_", "") if prefix else name): value for name, value in said.items()}


def check_pubsub_would_take(outgoing: OutgoingMessage) -> None:
    request = PublishRequest(topic=outgoing.topic, messages=[message_of(outgoing.data, outgoing.attributes)])
    limits.check_request_bytes(request.ByteSize())
    limits.check_contents([Content(data=outgoing.data, attributes=outgoing.attributes, ordering_key="")])


@given(data=ANY_DATA, attributes=ANY_ATTRIBUTES, rules=st.sampled_from([RULES, WITH_DEFAULT]))
@example(data=b"[" * 100_000, attributes={"model": "a"}, rules=RULES)
@example(data=b"{" + b'"a":{' * 100_000, attributes={}, rules=RULES)
@example(data=b"", attributes={"model": "a", "params": "[" * 1000}, rules=RULES)
def test_every_message_is_a_request_or_a_dead_letter_with_a_known_reason(
    data: bytes, attributes: dict[str, str], rules: Rules
) -> None:
    message = received(data, attributes)
    item = translate(message, rules)

    if isinstance(item, Rejection):
        assert item.reason in REASONS
        outgoing = dead_letter(
            message,
            topic=TOPIC,
            reason=item.reason,
            error=item.message,
            tries=0,
            request_id=claimed_id(message),
        )
        assert outgoing.data == data
        check_pubsub_would_take(outgoing)
    else:
        assert item.request.model in rules.models
        assert item.request.expired() in (True, False)
        assert InferenceRequest.parse(json.loads(json.dumps(item.request.to_wire()))).unpacked() == item.request
        expired = Outcome(status=Status.EXPIRED)
        check_pubsub_would_take(result_message(item, expired, now_s=2000.0, max_bytes=RESULT_MAX_BYTES))


@given(params=ODD_PARAMS, fields=FIELDS, content=URIS | INLINE, beside=st.booleans())
@example(params={"k": {"\ud800": 1}}, fields={"model": "a"}, content={"uri": "u"}, beside=False)
@example(params={"k": _nested(300)}, fields={"model": "a"}, content={"uri": "u"}, beside=False)
@example(params={"k": _nested(300)}, fields={"model": "a"}, content={"uri": "u"}, beside=True)
def test_every_request_can_be_sent_to_a_worker_who_reads_the_same(
    params: dict[str, Any], fields: dict[str, Any], content: dict[str, str], beside: bool
) -> None:
    try:
        attributes = {"params": json.dumps(params)} if beside else {}
        said = json.dumps({**fields, **content, **({} if beside else {"params": params})}).encode()
    except RecursionError:
        return
    item = translate(received(said, attributes), RULES)

    if isinstance(item, Translated):
        requests, blob = apart(to_chunk("b.1", [item]).requests)
        [read] = together(loads(dumps(requests)), lambda: blob)
        assert read is not None
        assert InferenceRequest.parse(read, travelled=True) == item.request.model_copy(update={"reply_topic": None})
    else:
        assert item.reason in REASONS


@given(fields=FIELDS, content=URIS | INLINE)
def test_what_a_json_message_says_is_what_the_request_says(fields: dict[str, Any], content: dict[str, str]) -> None:
    said = {**fields, **content}

    assert accepted(json.dumps(said).encode(), {}).request == InferenceRequest.parse(said).unpacked()


@given(fields=FIELDS, content=URIS)
def test_attributes_say_the_same_as_fields(fields: dict[str, Any], content: dict[str, str]) -> None:
    request = InferenceRequest.parse({**fields, **content})
    data = json.dumps(content).encode()

    assert accepted(data, as_attributes(fields)).request == request
    assert accepted(data, {"ce-type": "any", **as_attributes(fields, "ce-")}).request == request


@given(inside=FIELDS, beside=FIELDS, nothing=st.sets(st.sampled_from(sorted(VALUES))), content=URIS)
def test_the_data_wins_over_an_attribute_and_null_says_nothing(
    inside: dict[str, Any], beside: dict[str, Any], nothing: set[str], content: dict[str, str]
) -> None:
    data = {**dict.fromkeys(nothing), **inside, **content}

    item = accepted(json.dumps(data).encode(), as_attributes(beside))

    assert item.request == InferenceRequest.parse({**beside, **inside, **content})
    assert item.request_id == (inside.get("request_id") or beside.get("request_id") or "17")


@given(content=st.binary(min_size=1), fields=FIELDS)
def test_bytes_with_a_model_attribute_are_the_content_unless_they_are_a_json_object(
    content: bytes, fields: dict[str, Any]
) -> None:
    try:
        json_object = isinstance(json.loads(content), dict)
    except ValueError:
        json_object = False

    item = translate(received(content, as_attributes(fields)), RULES)

    if not json_object:
        assert isinstance(item, Translated)
        assert item.request.content() == content


@given(bucket=TEXT, name=TEXT, fields=FIELDS)
def test_an_upload_is_the_same_request_however_it_is_announced(bucket: str, name: str, fields: dict[str, Any]) -> None:
    beside = as_attributes(fields)
    notification = {"eventType": "OBJECT_FINALIZE", "bucketId": bucket, "objectId": name}
    event = {"ce-type": "google.cloud.storage.object.v1.finalized"}

    request = accepted(b'{"kind": "storage#object"}', {**notification, **beside}).request

    assert request == InferenceRequest.parse({**fields, "uri": f"gs://{bucket}/{name}"})
    assert accepted(json.dumps({"bucket": bucket, "name": name}).encode(), {**event, **beside}).request == request


@given(
    size=st.integers(0, 10_000_000) | st.integers(9_900_000, 10_000_000),
    attributes=many("n"),
    error=LONG,
    request_id=LONG,
)
def test_a_dead_letter_is_never_too_large_and_says_so_when_it_lost_its_data(
    size: int, attributes: dict[str, str], error: str, request_id: str
) -> None:
    message = received(b"x" * size, attributes)

    outgoing = dead_letter(message, topic=TOPIC, reason="r", error=error, tries=2, request_id=request_id)

    check_pubsub_would_take(outgoing)
    assert (outgoing.attributes.get("lowtide_truncated") == "true") == (outgoing.data != message.data)
    assert attributes.items() >= {n: v for n, v in outgoing.attributes.items() if not n.startswith("lowtide_")}.items()
    if size < 9_000_000:
        assert outgoing.data == message.data


@given(
    outputs=st.lists(JSON | st.floats() | LONG, max_size=3),
    status=st.sampled_from(Status),
    version=st.sampled_from(["v", "é", "\ud800"]),
    error=st.none() | st.builds(RequestError.model_construct, type=TEXT, message=LONG),
    attributes=many("x-"),
    request_id=st.none() | TEXT | repeated("aé", 512).filter(bool),
)
@example(outputs=[math.inf], status=Status.OK, version="\ud800", error=None, attributes={}, request_id=None)
def test_a_result_is_valid_json_of_the_contract_and_never_too_large(
    outputs: list[Any],
    status: Status,
    version: str,
    error: RequestError | None,
    attributes: dict[str, str],
    request_id: str | None,
) -> None:
    request = InferenceRequest(model="a", uri="u", request_id=request_id)
    item = Translated(received=received(b"", attributes), request=request, reply_topic=TOPIC)
    outcome = Outcome.model_construct(status=status, model_version=version, outputs=outputs, error=error)

    outgoing = result_message(item, outcome, now_s=2000.0, max_bytes=RESULT_MAX_BYTES)

    check_pubsub_would_take(outgoing)
    found = json.loads(outgoing.data, parse_constant=lambda word: {}[word])
    SCHEMA.validate(found)
    assert len(outgoing.data) <= RESULT_MAX_BYTES or found["error"]["type"] == "output_too_large"
    assert found["request_id"] == outgoing.attributes["request_id"] == (request_id or "17")

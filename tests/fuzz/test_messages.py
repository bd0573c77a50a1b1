"""Messages of every form, and what becomes of them on the way: none is read as what it is not, none is our mistake."""

import base64
import gzip
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lowtide.bridge.messages.content import may_be_read_as_request
from lowtide.bridge.messages.dead_letter import dead_letter
from lowtide.bridge.messages.kinds import Ignored, Received, Rejection, Translated
from lowtide.bridge.messages.reasons import IGNORED, REASONS
from lowtide.bridge.messages.translate import ATTRIBUTES as FIELDS
from lowtide.bridge.messages.translate import Rules, claimed_id, translate
from lowtide.bridge.replay import request_of
from lowtide.config import load_settings
from lowtide.tasks import InferenceRequest, InvalidRequest
from lowtide.tasks.wire.inline import canonical

RULES = Rules.of(load_settings(project="p", models="a,b", default_model="b", reply_topics="mine"))
CODECS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
SECRET = "gs://secret/"

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("a")
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*InferenceRequest.model_fields, "requestId", "else"])
CONTENT = st.binary(max_size=60) | st.sampled_from([b"\xff\xd8\xff\xe0 jpeg", b"\x89PNG\r\n\x1a\n", b"{}", b'"'])


def inline(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _spelled(content: bytes, how: int) -> str:
    text = (base64.urlsafe_b64encode(content) if how & 1 else base64.b64encode(content)).decode()
    text = text.rstrip("=") if how & 2 else text
    text = "\r\n".join(text[at : at + 7] for at in range(0, len(text), 7)) + "\n" if how & 4 else text
    return f"data:image/png;base64,{text}" if how & 8 else text


ASKS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(
        lambda name, more: {"model": "a", "uri": SECRET + name, **more},
        st.text(max_size=5),
        st.dictionaries(NAMES, JSON, max_size=2),
    ),
    st.builds(lambda content, how: {"data": _spelled(content, how)}, CONTENT, st.integers(0, 15)),
    st.dictionaries(NAMES, JSON, max_size=4),
)
KINDS = st.sampled_from(
    [
        "com.example.upload",
        *(f"google.cloud.storage.object.v1.{what}" for what in ("finalized", "deleted", "archived", "moved")),
        "google.cloud.audit.log.v1.written",
    ]
)
THINGS = st.fixed_dictionaries(
    {"bucket": st.sampled_from(["u", "u/v", ""]) | SCALARS, "name": st.text(max_size=5) | SCALARS},
    optional={"size": st.sampled_from(["0", 0, "5", 5]) | SCALARS, "generation": st.integers() | SCALARS},
)
EVENTS = st.fixed_dictionaries(
    {"specversion": st.sampled_from(["1.0", "0.3", 1, None]), "type": KINDS | SCALARS},
    optional={
        "data": ASKS | THINGS | JSON,
        "data_base64": CONTENT.map(inline) | SCALARS,
        "datacontentencoding": st.just("base64"),
        "datacontenttype": st.sampled_from(["application/json", "image/png", "text/plain", None, 5]),
        "model": st.just("a") | SCALARS,
        "params": st.just('{"k": 1}') | SCALARS,
        "requestid": SCALARS,
    },
)
FOREIGN = st.sampled_from(
    [
        {"message": {"data": "e30="}, "subscription": "s"},
        {"Records": []},
        {"kind": "storage#object", "bucket": "b", "name": "o"},
    ]
)
DOCUMENTS = ASKS | EVENTS | THINGS | FOREIGN | JSON | st.lists(ASKS | EVENTS, max_size=3)


def _written(document: Any, codec: str, packed: bool, twice: bool) -> bytes:
    text = json.dumps(json.dumps(document) if twice else document)
    data = text.encode(codec)
    return gzip.compress(data, mtime=0) if packed else data


def _damaged(data: bytes, at: float, piece: bytes) -> bytes:
    place = int(at * len(data))
    return data[:place] + piece + data[place + len(piece) // 2 :]


DATA = st.builds(_written, DOCUMENTS, st.sampled_from(CODECS), st.booleans(), st.sampled_from([False] * 9 + [True]))
DATA |= st.builds(_damaged, DATA, st.floats(0, 1), st.binary(max_size=3)) | CONTENT
BUNDLES = st.sampled_from(
    [
        {},
        {"eventType": "OBJECT_FINALIZE", "bucketId": "u", "objectId": "o", "objectGeneration": "17"},
        {"eventType": "OBJECT_DELETE", "bucketId": "u", "objectId": "o"},
        {"ce-type": "google.cloud.storage.object.v1.finalized", "ce-specversion": "1.0"},
        {"content-type": "application/cloudevents+json", "content-encoding": "gzip"},
        {"lowtide_content": "raw"},
        {"lowtide_content": "json"},
    ]
)
SINGLE = st.dictionaries(
    st.sampled_from(
        [
            *FIELDS,
            *("eventType", "bucketId", "objectId", "objectGeneration", "content-type", "content-encoding", "x-a"),
            *("ce-type", "ce_type", "CE-Type", "cloudEvents:type", "ce-model", "ce-params", "ce-specversion"),
        ]
    ),
    st.sampled_from(
        [
            *(
                "a",
                "b",
                "u",
                "o",
                "o/",
                "{",
                '{"k": 1}',
                "gzip",
                "br",
                "high",
                "mine",
                "17",
                "2026-01-31T12:00:00Z",
                "",
            ),
            *("OBJECT_FINALIZE", "OBJECT_DELETE", "object_archive", "application/cloudevents+json"),
            *("google.cloud.storage.object.v1.finalized", "google.cloud.storage.object.v1.deleted"),
        ]
    )
    | st.text(max_size=8),
)
ATTRIBUTES = st.builds(lambda one, two, more: {**one, **two, **more}, BUNDLES, BUNDLES, SINGLE)


def received(data: bytes, attributes: dict[str, str]) -> Received:
    return Received(subscription="s", ack_id="k", message_id="17", data=data, attributes=attributes, published_s=0.0)


@given(data=DATA, attributes=ATTRIBUTES)
def test_every_message_is_a_request_a_dead_letter_or_nothing(data: bytes, attributes: dict[str, str]) -> None:
    message = received(data, attributes)
    item = translate(message, RULES)

    if isinstance(item, Ignored):
        assert item.why in IGNORED
    elif isinstance(item, Rejection):
        assert item.reason in REASONS
        letter = dead_letter(
            message, topic="t", reason=item.reason, error=item.message, tries=0, request_id=claimed_id(message)
        )
        again = request_of(received(letter.data, dict(letter.attributes)))
        assert translate(received(again.data, dict(again.attributes)), RULES) == item
    else:
        assert item.request.model in RULES.models
        assert not (item.request.uri or "").startswith(SECRET) or may_be_read_as_request(data)


@given(data=DATA, attributes=ATTRIBUTES)
def test_what_is_raw_is_never_read(data: bytes, attributes: dict[str, str]) -> None:
    message = received(data, {**attributes, "lowtide_content": "raw"})
    item = translate(message, RULES)

    # What stands beside it counts as it does beside a picture that is no event.
    fields = {name: value for name, value in attributes.items() if name in (*FIELDS, "ce-model", "ce-params")}
    picture = translate(received(data and b"\xff\xd8", fields), RULES)
    if isinstance(item, Translated):
        assert isinstance(picture, Translated)
        assert (item.request.content(), item.request.uri, item.request.generation) == (data, None, None)
    else:
        assert item == picture
    assert claimed_id(message) == claimed_id(received(b"", {**attributes, "lowtide_content": "raw"}))


@given(data=DATA, model=st.sampled_from([{}, {"model": "a"}]))
def test_what_cannot_be_read_as_a_request_is_content(data: bytes, model: dict[str, str]) -> None:
    item = translate(received(data, model), RULES)

    if data and not may_be_read_as_request(data):
        assert isinstance(item, Translated)
        assert item.request.content() == data


@given(content=DATA, codec=st.sampled_from(CODECS), packed=st.booleans(), how=st.integers(0, 15), attributes=ATTRIBUTES)
def test_content_in_json_is_that_content_whatever_it_holds(
    content: bytes, codec: str, packed: bool, how: int, attributes: dict[str, str]
) -> None:
    beside = {name: value for name, value in attributes.items() if name in ("request_id", "model", "x-a")}
    data = _written({"model": "a", "data": _spelled(content, how)}, codec, packed, False)
    item = translate(received(data, beside), RULES)

    assert isinstance(item, Translated)
    assert (item.request.content(), item.request.uri) == (content, None)


@given(given=DOCUMENTS)
def test_what_is_parsed_travels_and_is_parsed_to_the_same(given: Any) -> None:
    try:
        request = InferenceRequest.parse(given)
    except InvalidRequest:
        return
    wire = json.loads(json.dumps(request.to_wire()))

    again = InferenceRequest.parse(wire)
    assert (again, again.to_wire(), again.wire_version) == (request, wire, request.wire_version)
    assert again.content() == request.content()
    assert inline(again.content()) == (again.data or "")


@given(content=CONTENT, how=st.integers(0, 15), at=st.floats(0, 1), piece=st.text("Aa+/-_= \t\r\n%:,é", min_size=1))
def test_a_damaged_spelling_is_never_other_bytes_by_a_blank(content: bytes, how: int, at: float, piece: str) -> None:
    text = _spelled(content, how)
    place = int(at * len(text))
    damaged = text[:place] + piece + text[place + 1 :]
    try:
        found = canonical(damaged)
    except ValueError:
        return
    assert base64.b64encode(base64.b64decode(found, validate=True)).decode() == found
    assert not {" ", "\t", "%"} & set(damaged.partition(",")[2] if how & 8 else damaged)

import base64
import json
from typing import Any

import pytest

from lowtide.tasks.chunks.blob import apart, together, within
from lowtide.tasks.errors import InvalidRequest
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.tasks.wire.version import wire_version_of

BYTES = {"model": "m", "data": b"\x00\xff one", "params": {"k": 1}}
BASE64 = {"model": "m", "data": base64.b64encode(b"two").decode()}
EMPTY = {"model": "m", "data": b""}
URI = {"model": "m", "uri": "gs://b/o"}
ALL = [BYTES, URI, BASE64, EMPTY]


def test_content_lies_beside_the_task_as_it_is_and_each_request_says_where() -> None:
    requests, blob = apart(ALL)

    assert blob == b"\x00\xff onetwo"
    assert json.loads(json.dumps(requests)) == [
        {"model": "m", "params": {"k": 1}, "blob": [0, 6]},
        URI,
        {"model": "m", "blob": [6, 3]},
        {"model": "m", "blob": [9, 0]},
    ]
    assert together(requests, lambda: blob) == [BYTES, URI, {"model": "m", "data": b"two"}, EMPTY]


def test_only_a_worker_that_knows_where_content_lies_reads_such_a_task() -> None:
    assert wire_version_of(apart(ALL)[0]) == 3
    assert wire_version_of(apart([URI])[0]) == wire_version_of(within(ALL)) == 1


def test_without_content_there_is_no_blob_and_none_is_fetched() -> None:
    def fetch() -> bytes:
        raise AssertionError

    assert apart([URI, URI]) == ([URI, URI], None)
    assert together([URI, URI], fetch) == [URI, URI]


def test_content_within_the_task_is_base64() -> None:
    assert within(ALL) == [{**BYTES, "data": "AP8gb25l"}, URI, BASE64, {"model": "m", "data": ""}]


@pytest.mark.parametrize("blob", [None, b"\x00\xff"])
def test_requests_whose_content_is_gone_are_told_from_the_others(blob: bytes | None) -> None:
    requests, _ = apart([BYTES, URI])
    fetched = []

    assert together([*requests, requests[0]], lambda: fetched.append(1) or blob) == [None, URI, None]
    assert len(fetched) == 1


@pytest.mark.parametrize(
    "given",
    [
        *({"model": "m", "blob": place} for place in ([0], [0, -1], [-1, 2], [0, "1"], [True, 1], "ab", None, {}, 5)),
        {"model": "m", "blob": [0, 1], "data": "YQ=="},
        {"model": "m", "blob": [0, 1], "uri": "u"},
        {"model": "m", "data": b"a", "uri": "u"},
        "no request",
        None,
    ],
)
def test_whatever_else_says_that_content_is_beside_it_is_no_request(given: Any) -> None:
    """A message may be anybody's. None as `blob` is as good as absent, and then there is no content."""
    [read] = together([given], lambda: b"abc")

    with pytest.raises(InvalidRequest):
        InferenceRequest.parse(read, travelled=True)


@pytest.mark.parametrize("given", [{"model": "m", "blob": [0, 1]}, {"model": "m", "data": "YQ==", "blob": [0, 1]}])
def test_nobody_can_ask_for_content_beside_the_task(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="blob: is not a field of a request"):
        InferenceRequest.parse(given)


def test_a_request_is_the_same_with_content_as_bytes() -> None:
    request = InferenceRequest.parse({**URI, "uri": None, "data": "dHdv", "priority": "high"})
    unpacked = request.unpacked()

    assert (unpacked.data, unpacked.content(), unpacked.inline_bytes) == (None, b"two", 3)
    assert unpacked.to_wire() == request.to_wire()
    assert unpacked.to_wire(raw=True) == {**request.to_wire(), "data": b"two"}
    assert unpacked == InferenceRequest.parse({**request.to_wire(), "data": b"two"}, travelled=True)
    assert unpacked != InferenceRequest.parse({**request.to_wire(), "data": b"TWO"}, travelled=True)
    assert "two" not in repr(unpacked)
    assert unpacked.unpacked() is unpacked

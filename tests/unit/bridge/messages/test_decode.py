import base64
import contextlib
import gzip
import json
import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.bridge.messages.content import may_be_read_as_request
from lowtide.bridge.messages.decode import (
    CONTENT_BYTES,
    UNPACKED_MAX_BYTES,
    Malformed,
    begin,
    read,
    read_request,
    size_bytes,
)
from lowtide.bridge.messages.kinds import decode
from tests.unit.bridge.received import received

VALUE = {"model": "a", "uri": "gs://b/ü ✓"}
TEXT = json.dumps(VALUE, ensure_ascii=False)
LONG = "QUJD" * (CONTENT_BYTES // 4)
LONGS = [LONG, f"{LONG}=", f"{LONG} ", f"{LONG}\n", f"{LONG}é", f'{LONG}"', f"{LONG}\\", f"data:,{LONG}"]
PIECES = [*'{}[]:,"\\ ', '"data"', '"data":', '"data" :\n"', '"\\"data":', '"a":', "1", "data", LONG, f'"{LONG}"']
CODECS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


def pack(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # tests have the same names in every process


def malformed(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        read(data)
    return str(caught.value)


@pytest.mark.parametrize("blanks", ["", " ", "\r\n\t", "\n" * 5000])
@pytest.mark.parametrize("codec", CODECS)
def test_json_is_read_in_every_encoding_plain_or_packed(codec: str, blanks: str) -> None:
    data = (blanks + TEXT).encode(codec)

    assert (begin(data), read(data)) == ("{", VALUE)
    packed = pack(data)
    assert read(packed) == VALUE
    assert begin(packed) == ("{" if len(blanks) < 1000 else "")  # of what is packed no more than the head is looked at


@pytest.mark.parametrize("codec", ["utf-16", "utf-32"])
def test_a_mark_of_the_other_byte_order_is_understood(codec: str) -> None:
    data = "\ufeff".encode(f"{codec}-be") + TEXT.encode(f"{codec}-be")
    assert (begin(data), read(data)) == ("{", VALUE)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\x89PNG", b"\0\0\0\x18ftypheic" * 99, b"\x1f\x8b", b"1", b"null"]
)
def test_other_content_does_not_begin_like_json(data: bytes) -> None:
    assert begin(data) == ""


@given(data=st.binary() | st.text().flatmap(lambda text: st.sampled_from(CODECS).map(lambda c: ("{" + text).encode(c))))
def test_whatever_begins_like_json_may_be_read_as_a_request(data: bytes) -> None:
    assert begin(data) == "" or may_be_read_as_request(data)
    packed = pack(data)
    assert begin(packed) == "" or may_be_read_as_request(packed)


@given(data=st.binary() | st.binary().map(lambda more: b"\x1f\x8b\x08\0" + more) | st.binary().map(pack))
def test_whatever_comes_is_json_or_malformed(data: bytes) -> None:
    begin(data)
    with contextlib.suppress(Malformed):
        read(data)
    assert len(data) <= size_bytes(data)


DOCUMENTS = st.recursive(
    st.sampled_from([*LONGS, "", "data", 1]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["data", '"data', 'a"data', "data_base64", "specversion"]), inner)
    ),
    max_leaves=5,
).map(lambda value: json.dumps(value, ensure_ascii=False))


def check_that_it_is_read_alike(text: str) -> None:
    def answer(call: Callable[[bytes], object]) -> object:
        try:
            return call(text.encode())
        except Malformed as error:
            return str(error)

    found, wanted = answer(read_request), answer(read)
    if isinstance(found, dict) and isinstance(found.get("data"), bytes):
        assert "specversion" not in found
        found["data"] = base64.b64encode(found["data"]).decode()
    assert found == wanted


@given(text=DOCUMENTS | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_request_is_read_as_any_json_but_for_its_content(text: str) -> None:
    check_that_it_is_read_alike(text)


@pytest.mark.parametrize("content", LONGS)
@pytest.mark.parametrize("form", ['{"data": "%s"}', '{"data": "%s", "data": ""}', '{"data": "%s", "specversion": ""}'])
def test_content_is_decoded_if_it_is_that_of_a_request(content: str, form: str) -> None:
    check_that_it_is_read_alike(form % content)


def test_no_character_of_content_is_looked_at_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    loads = json.loads
    monkeypatch.setattr(decode.json, "loads", lambda text, **options: looked_at.append(text) or loads(text, **options))

    request = read_request(b'{"model": "a", "data": "' + LONG.encode() + b'"}')
    assert request == {"model": "a", "data": base64.b64decode(LONG)}
    assert max(map(len, looked_at)) < CONTENT_BYTES
    assert size_bytes(b'{"data": "' + b"," * CONTENT_BYTES + b'"}') < 3 * CONTENT_BYTES


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": ', "not JSON: Expecting value"),
        (b'{"a": "\xff"}', "not utf-8 text: invalid start byte at byte 7"),
        ("{".encode("utf-16") + b"\0", "not utf-16 text: truncated data"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"uri": "a", "uri": "b"}', "says the same name twice"),
        (b'{"params": {"k": 1, "k": 1}}', "says the same name twice"),
        (b'{"k": ' + b"9" * 5000 + b"}", "not JSON: a number of 5,000 digits"),
        (b'{"k": NaN}', "NaN is no number of JSON"),
        (b'{"k": -Infinity}', "-Infinity is no number of JSON"),
        (pack(TEXT.encode())[:-9], "gzip, cut off"),
        (pack(random.Random(0).randbytes(300))[:-20], "gzip, cut off"),
        (pack(b"{" + b" " * 20_000_000)[:-9], "gzip that unpacks to"),
        (pack(TEXT.encode()) + pack(b"{}"), "gzip"),
        (pack(TEXT.encode())[:12] + b"x" + pack(TEXT.encode())[13:], "gzip, damaged"),
        (
            pack(b"{" + b" " * UNPACKED_MAX_BYTES),
            "gzip that unpacks to 10,000,001 bytes, 10,000,000 are allowed",
        ),
    ],
)
def test_malformed_json_says_what_is_wrong(data: bytes, words: str) -> None:
    assert words in malformed(data)


def test_what_claims_to_be_small_is_not_unpacked_to_more() -> None:
    bomb = pack(b"{" + b" " * 50_000_000)[:-4] + (1000).to_bytes(4, "little")
    tracemalloc.start()
    assert "gzip" in malformed(bomb)
    assert begin(bomb) == "{"
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak_bytes < 1_000_000


def test_a_packed_message_counts_with_its_unpacked_size() -> None:
    packed = pack(b"{" + b" " * 5_000_000)
    assert received(data=packed).size_bytes > 5_000_000 > len(packed)
    assert received(data=b"x" * 100).size_bytes < 200


def test_content_is_never_read_and_counts_as_it_came() -> None:
    for content in (
        received(data=pack(b"x" * 5_000_000)),
        received(data=b"[" + b"0," * 50_000, attributes={"lowtide_content": "raw"}),
    ):
        assert content.size_bytes < len(content.data) + 100


@pytest.mark.parametrize("packing", [bytes, pack], ids=["plain", "packed"])
@pytest.mark.parametrize("part", [b"[]", b"{}", b'{"":0}', b'["",0]', b"0.5"])
def test_json_counts_with_the_objects_that_it_becomes(part: bytes, packing: Callable[[bytes], bytes]) -> None:
    data = packing(b'{"model": "a", "params": {"k": [' + b",".join([part] * 30_000) + b"]}}")
    tracemalloc.start()
    document = read(data)
    takes_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert takes_bytes <= received(data=data).size_bytes < 20 * takes_bytes
    assert document["model"] == "a"

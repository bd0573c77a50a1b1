import codecs
import gzip
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lowtide.bridge.messages.content import may_be_read_as_request
from lowtide.bridge.messages.dead_letter import dead_letter
from lowtide.bridge.messages.kinds import Received, Rejection, Translated
from lowtide.bridge.messages.translate import Rules, claimed_id, translate
from lowtide.bridge.replay import request_of
from lowtide.config import load_settings
from tests.unit.bridge.received import message

RULES = Rules.of(load_settings(project="p", models="a", default_model="a"))
REQUEST = {"model": "a", "uri": "gs://others/secret.png", "request_id": "theirs"}
TEXT = json.dumps(REQUEST)

UTF_16_BOM, UTF_32_BOM = codecs.BOM_UTF16_LE, codecs.BOM_UTF32_LE
SPELLINGS = {
    "utf-8": TEXT.encode(),
    "blanks": b" \r\n\t" + TEXT.encode(),
    "other blanks": b"\x0b\x0c" + TEXT.encode(),
    "utf-8 with a mark": codecs.BOM_UTF8 + TEXT.encode(),
    "blanks and a mark": b"\n" + codecs.BOM_UTF8 + b" " + TEXT.encode(),
    "utf-16": UTF_16_BOM + TEXT.encode("utf-16-le"),
    "utf-16-le": TEXT.encode("utf-16-le"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    "utf-16-be with a mark": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-32": UTF_32_BOM + TEXT.encode("utf-32-le"),
    "utf-32-le": TEXT.encode("utf-32-le"),
    "utf-32-be with a mark": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    "utf-16 after blanks": UTF_16_BOM + f" \n{TEXT}".encode("utf-16-le"),
    "gzip": gzip.compress(TEXT.encode(), mtime=0),
    "array": f"[{TEXT}]".encode(),
    "twice": json.dumps(TEXT).encode(),
    "cut": TEXT.encode()[:20],
}
IMAGES = [
    b"\xff\xd8\xff\xe0\0\x10JFIF",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM6\0",
    b"II*\0",
    b"MM\0*",
    b"RIFF\0\0\0\0WEBP",
]
TALKATIVE = {
    "eventType": "OBJECT_FINALIZE",
    "bucketId": "b",
    "objectId": "o",
    "ce-type": "google.cloud.storage.object.v1.finalized",
    "content-type": "application/cloudevents+json",
    "content-encoding": "gzip",
}


def content_of(message: Received) -> bytes:
    item = translate(message, RULES)
    assert isinstance(item, Translated), item
    assert item.request.uri is None
    return item.request.content()


@pytest.mark.parametrize("data", SPELLINGS.values(), ids=SPELLINGS)
def test_whatever_holds_a_request_may_be_read_as_one(data: bytes) -> None:
    assert may_be_read_as_request(data)


@pytest.mark.parametrize("data", [b"", b"text", *IMAGES])
def test_pictures_can_be_nothing_but_content(data: bytes) -> None:
    assert not may_be_read_as_request(data)


@given(data=st.binary(min_size=1) | st.sampled_from(list(SPELLINGS.values())))
@example(data=b"\xff\xfe{\0")
def test_what_cannot_be_read_as_a_request_is_content_without_a_word(data: bytes) -> None:
    if not may_be_read_as_request(data):
        assert content_of(message(data, model="a")) == data


@pytest.mark.parametrize("beside", [{}, {"model": "a"}, TALKATIVE], ids=["alone", "model", "an event"])
@pytest.mark.parametrize("data", SPELLINGS.values(), ids=SPELLINGS)
def test_raw_data_is_the_content_whatever_it_holds_and_whatever_stands_beside_it(
    data: bytes, beside: dict[str, str]
) -> None:
    given = message(data, lowtide_content="raw", **beside)

    assert content_of(given) == data
    assert claimed_id(given) == given.message_id


def test_attributes_name_the_model_and_the_id_of_raw_data() -> None:
    item = translate(message(TEXT.encode(), lowtide_content="raw", request_id="mine", params='{"k": 1}'), RULES)

    assert isinstance(item, Translated)
    assert (item.request_id, item.request.params) == ("mine", {"k": 1})


def test_raw_data_of_no_bytes_is_no_content() -> None:
    item = translate(message(b"", lowtide_content="raw"), RULES)
    assert isinstance(item, Rejection)
    assert item.reason == "no_content"


@pytest.mark.parametrize("said", ["", "RAW", "json"])
def test_another_word_than_raw_is_an_error_that_names_it(said: str) -> None:
    item = translate(message(TEXT.encode(), lowtide_content=said), RULES)

    assert isinstance(item, Rejection)
    assert item == Rejection(reason="invalid_request", message=f"lowtide_content: may be raw or absent, not {said!r}")


def test_raw_data_stays_raw_as_a_dead_letter_and_when_that_is_replayed() -> None:
    original = message(TEXT.encode(), lowtide_content="raw", lowtide_else="ours", model="gone")
    noise = {f"a{number:02}": "v" for number in range(97)}
    crowded = message(TEXT.encode(), lowtide_content="raw", **noise)

    for buried in (original, crowded):
        outgoing = dead_letter(buried, topic="t", reason="unknown_model", error="why", tries=0, request_id="1")
        again = request_of(message(outgoing.data, **outgoing.attributes))
        assert again.attributes["lowtide_content"] == "raw"
        assert again.data == TEXT.encode()
        assert "lowtide_else" not in again.attributes

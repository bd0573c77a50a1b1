import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.tasks.wire.inline import canonical, decoded, written_in_base64

CONTENT = bytes(range(256)) + b"\xfb\xff"
PLAIN = base64.b64encode(CONTENT).decode()
SAFE = base64.urlsafe_b64encode(CONTENT).decode()

SPELLINGS = {
    "plain": PLAIN,
    "a line break at the end": PLAIN + "\n",
    "lines of 76": base64.encodebytes(CONTENT).decode(),
    "lines of MIME": base64.encodebytes(CONTENT).decode().replace("\n", "\r\n"),
    "unpadded": PLAIN.rstrip("="),
    "URL-safe": SAFE,
    "URL-safe and unpadded": SAFE.rstrip("="),
    "a data: URL": f"data:image/png;base64,{PLAIN}",
    "a data: URL with a charset": f"DATA:text/plain;charset=utf-8;Base64,{PLAIN}",
    "a data: URL in lines": f"\ndata:image/png;base64,{base64.encodebytes(CONTENT).decode()}",
    "a data: URL, URL-safe and unpadded": f"data:;base64,{SAFE.rstrip('=')}",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_of_the_same_bytes_becomes_one(text: str) -> None:
    assert canonical(text) == PLAIN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN.replace("+", " "), "a blank (' ') at 83; a + that became a blank would be other bytes"),
        (f" {PLAIN}", "a blank (' ') at 0"),
        ("QUJD\tQUJD", "a blank ('\\t') at 4"),
        ("QUJD\u00a0QUJD", "a blank ('\\xa0') at 4"),
        ("data:image/png;base64,QUJD QUJD", "a blank (' ') at 26"),
        ("QUI%3D", "a % at 3; undo the percent-encoding first"),
        ("QUJDé", "the character '\\xe9' at 4"),
        ("\ud800", "the character '\\ud800' at 0"),
        ("AB+_", "+ or / of one alphabet beside - or _ of the other"),
        ("data:image/png,QUJD", "a data: URL that does not say ;base64"),
        ("data:image/png;base64", "a data: URL that does not say ;base64"),
        ("QUJDQ", "5 characters are no whole bytes, is it cut off?"),
        ("QUJDQR", "half a byte, is it cut off?"),
        ("QUJDQQ=", "1 = at its end, where 2 belong"),
        ("QUJD====", "4 = at its end, where 0 belong"),
        ("QQ==QUJD", "are these several texts?"),
    ],
)
def test_what_may_be_other_bytes_is_an_error_that_names_it(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        canonical(text)
    assert str(caught.value).startswith("not base64: ")
    assert words in str(caught.value)
    assert "QUJD" not in str(caught.value)


def test_padded_text_may_have_bits_to_spare() -> None:
    assert canonical("QR==") == "QQ=="


@given(content=st.binary())
def test_what_is_canonical_stays_the_same_text(content: bytes) -> None:
    text = base64.b64encode(content).decode()
    assert canonical(text) is text


@given(text=st.text(st.characters()) | st.text("AQgw+/-_=\r\n "))
def test_whatever_comes_is_canonical_or_a_value_error(text: str) -> None:
    try:
        found = canonical(text)
    except ValueError:
        return
    assert base64.b64encode(base64.b64decode(found, validate=True)).decode() == found


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_content_that_is_base64_text_is_known_in_every_spelling(text: str) -> None:
    assert written_in_base64(text.encode()) == CONTENT


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"a word", "é".encode()])
def test_other_content_is_not_taken_for_base64(content: bytes) -> None:
    assert written_in_base64(content) is None


@given(text=st.text(st.characters()) | st.text("AQgw+/-_=\r\n "))
def test_decoded_are_the_bytes_of_what_is_canonical(text: str) -> None:
    def answer(call: Callable[[str], bytes]) -> bytes | str:
        try:
            return call(text)
        except ValueError as error:
            return str(error)

    assert answer(decoded) == answer(lambda text: base64.b64decode(canonical(text)))

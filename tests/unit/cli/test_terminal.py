import pytest

from lowtide.cli.terminal import shown
from lowtide.config.text import is_utf8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("photos/é 猫.png", "photos/é 猫.png"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("two\nlines\r\x85\u2028", "two\\nlines\\r\\x85\\u2028"),
        ("gnp.\u202egpj", "gnp.\\u202egpj"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_nothing_that_a_terminal_would_obey_reaches_it(text: str, said: str) -> None:
    assert shown(text) == said


def test_half_a_surrogate_pair_is_no_utf8() -> None:
    assert is_utf8("é\x00\x85")
    assert not is_utf8("caf\udce9")

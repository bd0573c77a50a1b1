import os
from pathlib import Path

import pytest

from lowtide.cli.sources.listing import Listed, ListUnreadable, names_in

LINES = "# photos\ngs://b/1.jpg\n\n  é 2.jpg \n"


def names(data: bytes) -> list[str]:
    return [listed.name for listed in names_in(data, called="list.txt")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_list_is_read_in_every_encoding_that_says_which_it_is(encoding: str, ending: str) -> None:
    assert names(LINES.replace("\n", ending).encode(encoding)) == ["gs://b/1.jpg", "é 2.jpg"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_that_does_not_say_so_is_told_of(encoding: str) -> None:
    with pytest.raises(ListUnreadable, match=r"^list\.txt: looks like UTF-16 without"):
        names(LINES.encode(encoding))


def test_utf_16_that_is_damaged_is_told_of_with_its_line() -> None:
    with pytest.raises(ListUnreadable, match=r"^list\.txt, line 2: begins as UTF-16 and is damaged"):
        names("a\nb".encode("utf-16") + b"\x00\xd8\x00\x00")


def test_separators_that_only_unicode_knows_are_letters_of_names() -> None:
    assert names("a\x85b\u2028c\x0bd\x1ce.png\nz.png\n".encode()) == ["a\x85b\u2028c\x0bd\x1ce.png", "z.png"]


def test_names_between_zeros_may_hold_everything_else() -> None:
    assert names(b"a\nb.png\0 # c \0caf\xe9\0") == ["a\nb.png", " # c ", "caf\udce9"]


def test_a_zero_in_one_of_many_lines_spoils_that_line_alone() -> None:
    assert names(b"a.png\nb\0.png\nc.png\n") == ["a.png", "b\0.png", "c.png"]
    assert names(b"a.png\nb.png\n" + bytes(4096)) == ["a.png", "b.png"], "as a loss of power leaves it"
    assert names(b"a.png\0b.png") == ["a.png", "b.png"]


def test_a_line_that_is_not_utf8_names_the_file_of_these_bytes_and_says_so() -> None:
    one, two = names_in(b"ok.png\ncaf\xe9.png\n", called="list.txt")

    assert one == Listed(name="ok.png", where="list.txt, line 1")
    assert os.fsencode(two.name) == b"caf\xe9.png"
    assert two.where == "list.txt, line 2, which is not UTF-8"


def test_lists_that_were_joined_have_marks_between_them() -> None:
    assert names("\ufeffa.png\n".encode() * 2) == ["a.png", "a.png"]


def test_a_line_is_what_is_called_so_before_it_is_a_comment_or_has_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("#1.png", " blank.png "):
        (tmp_path / name).touch()

    assert names(b"#1.png\n#2.png\n blank.png \n bare.png \n") == ["#1.png", " blank.png ", "bare.png"]

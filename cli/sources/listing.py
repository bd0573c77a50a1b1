"""Lists of paths and URIs, as people's tools write them: UTF-8 with and without a byte order mark, UTF-16 with one,
lines that end as on any system, `find -print0`, and names that are not UTF-8 at all.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from lowtide.config.text import is_utf8, marked_encoding
from lowtide.tasks.errors import LowtideError

BOM = "\ufeff"


class ListUnreadable(LowtideError):
    """Raised when a list can't be read as a whole. The message names the file and the encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A path or URI, as `os.fsdecode` gives it. `where`: the list and the line, for people."""

    name: str
    where: str


def names_in(data: bytes, *, called: str) -> list[Listed]:
    r"""The names in a list, one a line. Blank lines are skipped, and `#` comments unless a file is called so.

    Only `\n`, `\r\n` and, where there is no `\n` at all, `\r` end a line: names may hold all other separators, and
    these, too, with NUL bytes between the names. Raises ListUnreadable.
    """
    text = _text(data, called)
    if _has_zeros_between(text):
        names = enumerate(text.split("\0"), start=1)
        return [Listed(name=name, where=f"{called}, name {number}") for number, name in names if name]
    lines = enumerate(text.split("\n" if "\n" in text else "\r"), start=1)
    return list(_named(lines, called))


def _has_zeros_between(text: str) -> bool:
    """True for what `find -print0` writes. A zero in one of many lines is damage, and so are zeros side by side."""
    return "\0" in text and "\0\0" not in text and (text.endswith("\0") or "\n" not in text)


def _named(lines: Iterator[tuple[int, str]], called: str) -> Iterator[Listed]:
    for number, line in lines:
        if name := _name(line.removesuffix("\r").strip("\0")):
            odd = "" if is_utf8(name) else ", which is not UTF-8"
            yield Listed(name=name, where=f"{called}, line {number}{odd}")


def _name(line: str) -> str:
    """The name in a line, as it is there when a file is called so, else without blanks around it. Empty: none."""
    # Lists that were joined have marks between them.
    bare = line.strip().removeprefix(BOM).strip()
    if not bare or "://" in bare:
        return "" if bare.startswith("#") else bare
    if os.path.lexists(line):
        return line
    return "" if bare.startswith("#") and not os.path.lexists(bare) else bare


def _text(data: bytes, called: str) -> str:
    """Raises ListUnreadable."""
    encoding = marked_encoding(data) or "utf-8"
    is_utf_8 = encoding.startswith("utf-8")
    if is_utf_8 and _looks_like_utf_16(data):
        raise ListUnreadable(f"{called}: looks like UTF-16 without a byte order mark: save the list as UTF-8")
    try:
        # A name that is not UTF-8 may stand among those that are.
        return data.decode(encoding, "surrogateescape" if is_utf_8 else "strict")
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "replace").count("\n") + 1
        raise ListUnreadable(
            f"{called}, line {line}: begins as {encoding.upper()} and is damaged: save the list as UTF-8"
        ) from error


def _looks_like_utf_16(data: bytes) -> bool:
    """True when every other byte is zero, most of them at least. `find -print0` writes one zero a name."""
    first, second = (half.count(0) * 2 > len(half) for half in (data[::2], data[1::2]))
    return len(data) > 3 and first != second

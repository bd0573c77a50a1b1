"""Text from outside: what it is, without what is around it. Pure, imports nothing of ours."""

import codecs

QUOTES = "\"'"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def marked_encoding(content: bytes) -> str | None:
    """The encoding that its byte order mark tells, None without one. Decoding by it takes the mark away."""
    return next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)


def cleaned(text: str) -> str:
    r"""A value without what is around it in files of variables, and never part of it: blanks, line ends, a byte order
    mark, a pair of quotation marks.

    >>> cleaned('"redis://host:6379/0"\r')
    'redis://host:6379/0'
    """
    bare = text.removeprefix("\ufeff").strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in QUOTES and bare[0] not in bare[1:-1]:
        bare = bare[1:-1]
    return bare if bare == text else cleaned(bare)


def is_utf8(text: str) -> bool:
    """False when it holds bytes that are not, which Python reads as lone surrogates, or half a surrogate pair."""
    return not any("\ud800" <= char <= "\udfff" for char in text)

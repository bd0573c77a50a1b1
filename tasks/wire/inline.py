"""Inline content: base64 as people write it, and as it travels. Pure."""

import re
import string

import pybase64

PLAIN = (string.ascii_letters + string.digits + "+/").encode()
VALUES = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
LEFT_OVER = {0: 0, 1: 0b11, 2: 0b1111}
"""Padding → the bits of the last character that belong to no byte."""
URL_SAFE = str.maketrans("-_", "+/")
LINE_BREAKS = str.maketrans("", "", "\r\n")
DATA_URL = re.compile(r"[\r\n]*data:([^,]*)(,?)", re.IGNORECASE)
FOREIGN = re.compile(r"[^A-Za-z0-9+/=\r\n_-]")


def canonical(text: str) -> str:
    """The one spelling of these bytes in base64: what has line breaks, a data: prefix, the URL-safe alphabet or no
    padding is written anew. Raises ValueError, which says what is wrong and never the text.
    """
    if _is_canonical(text):
        return text
    begin = _prefix_end(text)
    _check_characters(text, begin)
    written = text[begin:].translate(LINE_BREAKS)
    core = written.rstrip("=")
    padding = _padding(core, len(written) - len(core))
    if not core:
        return ""
    core = core.translate(URL_SAFE)
    last = VALUES.index(core[-1])
    if last & LEFT_OVER[padding] and not written.endswith("="):
        raise ValueError("not base64: its last character is half a byte, is it cut off?")
    return core[:-1] + VALUES[last & ~LEFT_OVER[padding]] + "=" * padding


def decoded(text: str) -> bytes:
    """The bytes, in whichever of the spellings. Raises ValueError as `canonical`."""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; text beyond ASCII is another
        return pybase64.b64decode(canonical(text))


def encoded(content: bytes) -> str:
    """The bytes in base64, in the one spelling."""
    return pybase64.b64encode_as_string(content)


def written_in_base64(content: bytes) -> bytes | None:
    """The bytes that content is base64 text of, in any spelling; None when it is no such text."""
    try:
        return decoded(content.decode("ascii")) or None
    except ValueError:
        return None


def _is_canonical(text: str) -> bool:
    """Without a look at each character in Python: 10 MB take some 15 ms."""
    if len(text) % 4 or not text.isascii():
        return False
    padding = 2 if text.endswith("==") else int(text.endswith("="))
    if text.encode("ascii").translate(None, PLAIN) != b"=" * padding:
        return False
    return not text or not VALUES.index(text[-1 - padding]) & LEFT_OVER[padding]


def _prefix_end(text: str) -> int:
    prefix = DATA_URL.match(text)
    if prefix is None:
        return 0
    if not prefix[2] or not prefix[1].lower().endswith(";base64"):
        raise ValueError("not base64: a data: URL that does not say ;base64 before its comma")
    return prefix.end()


def _check_characters(text: str, begin: int) -> None:
    if foreign := FOREIGN.search(text, begin):
        one, at = foreign[0], foreign.start()
        if one.isspace():
            raise ValueError(f"not base64: a blank ({one!a}) at {at}; a + that became a blank would be other bytes")
        if one == "%":
            raise ValueError(f"not base64: a % at {at}; undo the percent-encoding first")
        raise ValueError(f"not base64: the character {one!a} at {at}")
    if any(text.find(one, begin) >= 0 for one in "+/") and any(text.find(one, begin) >= 0 for one in "-_"):
        raise ValueError("not base64: + or / of one alphabet beside - or _ of the other")


def _padding(core: str, given: int) -> int:
    if "=" in core:
        raise ValueError("not base64: it goes on after its padding, are these several texts?")
    if len(core) % 4 == 1:
        raise ValueError(f"not base64: {len(core)} characters are no whole bytes, is it cut off?")
    wanted = -len(core) % 4
    if given not in (0, wanted):
        raise ValueError(f"not base64: {given} = at its end, where {wanted} belong")
    return wanted

"""The JSON in a message's data, in any of its encodings, compressed by gzip or not. Pure."""

import json
import re
import secrets
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import pybase64

from lowtide.bridge.messages.content import GZIP

UNPACKED_MAX_BYTES = 10_000_000
"""What Pub/Sub could have brought unpacked."""
HEAD_BYTES = 4096
BLANKS = " \t\r\n\x0b\x0c"
MAY_BEGIN = b'{["' + BLANKS.encode() + b"\0\xef\xff\xfe"
"""First bytes of JSON: of its text, of a byte order mark, of a zero in UTF-16 or UTF-32."""
STEP_BYTES = 65_536
"""So much is unpacked at a time where nothing of it is kept."""
UTF_8 = ("utf-8", "utf-8-sig")
PART_BYTES = 200
"""The largest object that a comma or an opening bracket of JSON makes, about."""
PARTS_MAX = 100_000
"""Most of them in JSON that is read: ten million characters of empty arrays would take 200 MB for as long as the
message is held, and 20 kB of gzip say them.
"""
CONTENT_NAME = b'"data"'
CONTENT_BEGIN = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"')
CONTENT_BYTES = 4096
"""Content from here on is cut out before the JSON around it is read."""
CUT_OUT = secrets.token_hex(16).encode()
"""What stands in its place meanwhile, which no publisher can know."""
EVENT = "specversion"
"""What every CloudEvent has, whose `data` is something else."""


class Malformed(Exception):
    """Raised for data that begins like JSON and can't be read; the message never quotes it."""


class TooManyParts(Malformed):
    """Raised for JSON of so many parts that it is not read."""


def begin(data: bytes) -> str:
    """The first character of data that begins like JSON: `{`, `[` or `"`; else nothing."""
    packed = data.startswith(GZIP)
    first = _first_character(_unpacked_head(data) if packed else data)
    return first if first in ("{", "[", '"') else ""


def read(data: bytes) -> Any:
    """The JSON value in data. Raises Malformed."""
    return _read(_unpacked(data))


def read_request(data: bytes) -> Any:
    """The same; but long content of a request, base64 in `data`, is bytes. Raises Malformed."""
    unpacked = _unpacked(data)
    if content := _content(unpacked):
        with suppress(ValueError, RecursionError, Malformed):  # read as a whole, it is told where it is wrong
            return _read_around(unpacked, content)
    return _read(unpacked)


def read_text(text: str) -> Any:
    """The JSON value in a text. Raises Malformed."""
    if len(text) > PARTS_MAX and sum(map(text.count, ",[{")) > PARTS_MAX:
        raise TooManyParts(f"JSON of more than {PARTS_MAX:,} commas and brackets")
    try:
        return json.loads(text, parse_int=_whole, parse_constant=_no_constant, object_pairs_hook=_once_each)
    except RecursionError as error:
        raise Malformed("nested too deeply") from error
    except ValueError as error:
        raise Malformed(f"not JSON: {error}") from error


def size_bytes(data: bytes) -> int:
    """What data takes in memory once it was read, at most: JSON as it came, and unpacked with the objects, or the
    content, that it becomes.
    """
    if not begin(data):
        return len(data)
    try:
        unpacked = _unpacked(data)
    except Malformed:  # nor is it read
        return len(data)
    begin_at, end = _content(unpacked) or (0, 0)
    around = (unpacked[:begin_at], unpacked[end:])
    parts = min(PARTS_MAX, sum(text.count(mark) for text in around for mark in (b",", b"[", b"{")))
    return len(data) + len(unpacked) + PART_BYTES * parts


def _content(text: bytes) -> tuple[int, int] | None:
    """Where, in JSON, the text of the first field `data` begins and ends, if it is long."""
    named = text.find(CONTENT_NAME)
    opened = CONTENT_BEGIN.match(text, named + len(CONTENT_NAME)) if named >= 0 else None
    if opened is None:
        return None
    end = text.find(b'"', opened.end())
    return (opened.end(), end) if end - opened.end() >= CONTENT_BYTES else None


def _read(unpacked: bytes) -> Any:
    codec = json.detect_encoding(unpacked)
    try:
        text = unpacked.decode(codec)
    except UnicodeDecodeError as error:
        raise Malformed(f"not {codec} text: {error.reason} at byte {error.start}") from error
    return read_text(text)


def _read_around(unpacked: bytes, content: tuple[int, int]) -> Any:
    """The request, without a look at each character of its content: 150 kB of base64 take 0.01 instead of 0.2 ms.
    Raises Malformed, ValueError for what is no request in UTF-8 with content in base64's own spelling.
    """
    begin_at, end = content
    decoded = pybase64.b64decode(memoryview(unpacked)[begin_at:end], validate=True)  # then all of it is one text
    request = read_text((unpacked[:begin_at] + CUT_OUT + unpacked[end:]).decode())
    if not isinstance(request, dict) or request.get("data") != CUT_OUT.decode() or EVENT in request:
        raise ValueError("not the content of a request")
    return {**request, "data": decoded}


def _first_character(data: bytes) -> str:
    if data[:1] not in MAY_BEGIN:
        return ""
    codec = json.detect_encoding(data)
    if codec in UTF_8:
        return data.removeprefix(b"\xef\xbb\xbf").lstrip(BLANKS.encode())[:1].decode("ascii", "ignore")
    head = data[:HEAD_BYTES].decode(codec, "ignore")
    if head and not head.lstrip(BLANKS):
        head = data.decode(codec, "ignore")
    return head.lstrip(BLANKS)[:1]


def _claimed_bytes(data: bytes) -> int:
    """By the last four bytes of gzip."""
    return int.from_bytes(data[-4:], "little")


def _unpacked_head(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, HEAD_BYTES)
    except zlib.error:
        return b""


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(GZIP):
        return data
    claimed = _claimed_bytes(data)
    if claimed > UNPACKED_MAX_BYTES:
        too_large = f"gzip that unpacks to {claimed:,} bytes, {UNPACKED_MAX_BYTES:,} are allowed"
        raise Malformed("gzip, cut off" if _is_cut_off(data) else too_large)
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(data, claimed + 1)
    except zlib.error as error:
        raise Malformed(f"gzip, damaged: {error}") from error
    if unpacking.unused_data:
        raise Malformed("gzip that goes on after its end: pack the whole as one")
    if not unpacking.eof:
        raise Malformed("gzip, cut off")
    return unpacked


def _is_cut_off(data: bytes) -> bool:
    """True when the last four bytes are no size, since the end did not come. Keeps nothing of what it unpacks."""
    unpacking, size_bytes = zlib.decompressobj(wbits=31), 0
    try:
        while data and not unpacking.eof and size_bytes <= UNPACKED_MAX_BYTES:
            size_bytes += len(unpacking.decompress(data, STEP_BYTES))
            data = unpacking.unconsumed_tail
    except zlib.error:
        return False
    return not unpacking.eof and size_bytes <= UNPACKED_MAX_BYTES


def _whole(digits: str) -> int:
    """Python has a bound, and words for programmers about it."""
    try:
        return int(digits)
    except ValueError as error:
        raise ValueError(f"a number of {len(digits):,} digits") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _once_each(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object says the same name twice")
    return found

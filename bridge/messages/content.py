"""Whether a message's data is content, or may be a request (JSON, perhaps packed). Pure."""

from collections.abc import Mapping

CONTENT = "lowtide_content"
"""The attribute by which a publisher says what a message's data is. The publisher's own, unlike other `lowtide_…`."""
RAW = "raw"
"""Its one value: the data is the content, whatever it looks like, and whatever other attributes say."""

GZIP = b"\x1f\x8b"
BEFORE_JSON = bytes(range(0x21)) + b"\xef\xbb\xbf\xff\xfe"
"""Blanks, byte order marks, and the zeros of UTF-16 and UTF-32."""


def is_raw(attributes: Mapping[str, str]) -> bool:
    """True when the publisher says that the data is the content. Such data is never read."""
    return attributes.get(CONTENT) == RAW


def may_be_read_as_request(data: bytes) -> bool:
    """True for data that a bridge of any release could read as a request when nothing says that it is raw: JSON in any
    encoding, or packed. Some content is caught with it; sent as base64 in a JSON request it is content for all of them.
    """
    return data.startswith(GZIP) or data.lstrip(BEFORE_JSON)[:1] in (b"{", b"[", b'"')

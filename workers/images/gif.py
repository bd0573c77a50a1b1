"""GIF: the first frame, without comments, timing and what follows."""

import struct

from lowtide.workers.images.plan import Plan, cut_off, damaged, unsupported

HEADER_BYTES, FRAME_BYTES = 13, 10
EXTENSION, FRAME, TRAILER, CONTROL = 0x21, 0x2C, 0x3B, 0xF9
HAS_COLOURS = 0x80


def plan(content: bytes) -> Plan:
    """Raises ContentError: what is cut off, damaged, or not supported."""
    if len(content) < HEADER_BYTES:
        raise cut_off(content)
    width_px, height_px, flags = struct.unpack_from("<HHB", content, 6)
    at = start = HEADER_BYTES + _colours_bytes(flags)
    control = b""
    while (mark := _byte(content, at)) != FRAME:
        if mark == TRAILER:
            raise damaged("it has no frame")
        if mark == EXTENSION:
            end = _blocks_end(content, at + 2)
            control = content[at:end] if _byte(content, at + 1) == CONTROL else control
            at = end
        else:
            at += 1  # some encoders pad
    left, top, frame_width_px, frame_height_px, own = struct.unpack_from("<HHHHB", _at_least(content, at), at + 1)
    if not (flags | own) & HAS_COLOURS:
        raise unsupported("a GIF without colours of its own")
    end = _blocks_end(content, at + FRAME_BYTES + _colours_bytes(own) + 1)
    box = (left, top, left + frame_width_px, top + frame_height_px)
    size = (max(width_px, box[2]), max(height_px, box[3]))
    return Plan(
        content=content[:start] + control + content[at:end] + bytes((TRAILER,)),
        size=size,
        box=None if box == (0, 0, *size) else box,
    )


def _colours_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & HAS_COLOURS else 0


def _at_least(content: bytes, at: int) -> bytes:
    if at + FRAME_BYTES > len(content):
        raise cut_off(content)
    return content


def _byte(content: bytes, at: int) -> int:
    if at >= len(content):
        raise cut_off(content)
    return content[at]


def _blocks_end(content: bytes, at: int) -> int:
    """Behind the empty block that ends a chain of them."""
    while length := _byte(content, at):
        at += 1 + length
    return at + 1

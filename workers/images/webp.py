"""WebP: the size in its header, and whether all of it came."""

from lowtide.workers.images.plan import Plan, cut_off, damaged

HEADER_BYTES = 30

DECODER_BYTES_PER_PIXEL = 20
"""Libwebp's decoder of animations, which Pillow uses for all, has two canvases of four bytes; a lossless picture is
unpacked into four more, and the frame is handed over as four, and read into four.
"""


def plan(content: bytes) -> Plan:
    """Raises ContentError: what is cut off or damaged."""
    wanted_bytes = int.from_bytes(content[4:8], "little") + 8
    if len(content) < max(wanted_bytes, HEADER_BYTES):
        raise cut_off(content, wanted_bytes=wanted_bytes)
    size = _size(content)
    return Plan(content=content, size=size, decoder_bytes=DECODER_BYTES_PER_PIXEL * size[0] * size[1])


def _size(content: bytes) -> tuple[int, int]:
    kind = content[12:16]
    if kind == b"VP8X":
        return _number(content[24:27]) + 1, _number(content[27:30]) + 1
    if kind == b"VP8L":
        sides = _number(content[21:25])
        return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _number(content[26:28]) & 0x3FFF, _number(content[28:30]) & 0x3FFF
    raise damaged("its first chunk is none of a WebP")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")

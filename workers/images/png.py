"""PNG: the chunks that make the picture, and the one colour that may be transparent."""

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from lowtide.workers.images.plan import Plan, cut_off, damaged, unsupported

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
"""Colour types and their bits per sample (ISO/IEC 15948, table 11.1)."""

SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass, where it begins, and its steps: left, top, to the right, down (ISO/IEC 15948, 8.2)."""

CHUNKS_MAX = 100_000
"""Of those that are kept: each takes some 300 bytes here, and 13 in a file. Encoders write one per 8 kB or more."""

UNPACK_BYTES = 1 << 20

PICTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
CHECKED = (b"IHDR", b"PLTE", b"tRNS")
"""The stream of pixels has a checksum of its own, which its decoder looks at."""


class PngChunk(NamedTuple):
    """`raw`: all of it, as it stands in the file. Not a dataclass: a picture may have thousands."""

    kind: bytes
    raw: memoryview

    @property
    def data(self) -> memoryview:
        """What it holds."""
        return self.raw[8:-4]

    @property
    def sound(self) -> bool:
        """Its checksum is right."""
        return zlib.crc32(self.raw[4:-4]) == int.from_bytes(self.raw[-4:])


def plan(content: bytes) -> Plan:
    """Raises ContentError: what is cut off, damaged, or not supported.

    Text, profiles, timing and further frames are left out, whatever is in them; what shows the picture is checked.
    """
    chunks = list(itertools.islice(filter(_is_shown, _chunks(content)), CHUNKS_MAX + 1))
    if len(chunks) > CHUNKS_MAX:
        raise unsupported(f"a PNG of more than {CHUNKS_MAX:,} chunks")
    header = next((chunk for chunk in chunks if chunk.kind == b"IHDR"), None)
    if header is None or len(header.data) != 13:
        raise damaged("it has no header (IHDR)")
    width_px, height_px, bits, colour, *methods = struct.unpack(">IIBBBBB", header.data)
    if not width_px or not height_px:
        raise damaged(f"its header says {width_px} x {height_px} pixels")
    if bits not in DEPTHS.get(colour, ()) or any(methods[:2]) or methods[2] > 1:
        raise damaged(f"its header says {bits} bits of colour type {colour}, and methods {methods}")
    transparency = _transparency(chunks)
    keyed = transparency is not None and colour in (GREY, RGB)
    kept = [chunk for chunk in chunks if chunk is not transparency or colour == PALETTE]
    return Plan(
        content=b"".join((MAGIC, *(chunk.raw for chunk in kept))),
        size=(width_px, height_px),
        clear=_clear(transparency.data, colour, bits) if transparency and keyed else None,
        clear_bits=bits,
    )


def check_rows(plan: Plan) -> None:
    """Raises ContentError when the pixels end, in good order, before the last row: what is lacking would be black.

    They are unpacked a second time, so ask only where the last row is.
    """
    width_px, height_px, bits, colour, *_, interlaced = struct.unpack(">IIBBBBB", plan.content[16:29])
    wanted_bytes = sum(
        rows * (1 + (columns * bits * SAMPLES[colour] + 7) // 8)
        for columns, rows in (_passes(width_px, height_px) if interlaced else [(width_px, height_px)])
        if columns
    )
    try:
        came_bytes = _unpacked_bytes(plan.content)
    except zlib.error as error:
        raise damaged(str(error)) from error
    if came_bytes < wanted_bytes:
        raise cut_off(plan.content, missing=f"its pixels end after {came_bytes:,} of {wanted_bytes:,} bytes")


def _passes(width_px: int, height_px: int) -> Iterator[tuple[int, int]]:
    """Columns and rows of each of the seven pictures that an interlaced one is."""
    for left, top, right, down in ADAM7:
        yield (width_px - left + right - 1) // right, (height_px - top + down - 1) // down


def _unpacked_bytes(content: bytes) -> int:
    unpacker, came_bytes = zlib.decompressobj(), 0
    for chunk in _chunks(content):
        data = bytes(chunk.data) if chunk.kind == b"IDAT" else b""
        while data and not unpacker.eof:
            came_bytes += len(unpacker.decompress(data, UNPACK_BYTES))
            data = unpacker.unconsumed_tail
    return came_bytes


def _chunks(content: bytes) -> Iterator[PngChunk]:
    """The chunks up to the end, those of the picture checked. What is cut off behind the pixels is left out."""
    view, at, pixels, kind = memoryview(content), len(MAGIC), False, b""
    while kind != b"IEND" and at < len(content):
        length, kind = int.from_bytes(view[at : at + 4]), bytes(view[at + 4 : at + 8])
        end = at + 12 + length
        if end > len(content):
            if pixels and kind != b"IDAT":
                return
            raise cut_off(content, wanted_bytes=end)
        chunk = PngChunk(kind=kind, raw=view[at:end])
        _check(chunk)
        pixels = pixels or kind == b"IDAT"
        yield chunk
        at = end
    if not pixels:
        raise cut_off(content, missing="no pixel among them")


def _check(chunk: PngChunk) -> None:
    """Raises ContentError for a chunk without which the picture is another one. Lower case: it can be left out."""
    if chunk.kind == b"CgBI":
        raise unsupported("CgBI, Apple's variant of PNG,")
    if chunk.kind not in PICTURE and not chunk.kind[:1].islower():
        raise damaged(f"the chunk {chunk.kind.decode('latin-1')!r} is none that a PNG may have")
    if chunk.kind in CHECKED and not chunk.sound:
        raise damaged(f"the checksum of {chunk.kind.decode()} is wrong")


def _is_shown(chunk: PngChunk) -> bool:
    """It is part of the picture, or says which way up it is."""
    return chunk.kind in (*PICTURE, b"tRNS") or (chunk.kind == b"eXIf" and chunk.sound)


def _transparency(chunks: list[PngChunk]) -> PngChunk | None:
    """The chunk tRNS, which stands before the pixels."""
    for chunk in chunks:
        if chunk.kind in (b"IDAT", b"tRNS"):
            return chunk if chunk.kind == b"tRNS" else None
    return None


def _clear(data: memoryview, colour: int, bits: int) -> tuple[int, ...]:
    """The transparent value. Of its 16 bits the lowest count, as many as a sample has (ISO/IEC 15948, 11.3.2.1)."""
    samples = 1 if colour == GREY else 3
    if len(data) != 2 * samples:
        raise damaged(f"its transparent colour has {len(data)} bytes instead of {2 * samples}")
    return tuple(value & ((1 << bits) - 1) for value in struct.unpack(f">{samples}H", data))

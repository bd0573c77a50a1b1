"""Writers of pictures, by hand: the truth about each is the array that it was made of.

A picture here is a list of rows, each a list of pixels, each a tuple of samples in the picture's own depth.
"""

import struct
import zlib
from collections.abc import Callable, Sequence

Rows = Sequence[Sequence[Sequence[int]]]

SHORT, LONG = 3, 4
LZW, JPEG, DEFLATE, PACKBITS, ZSTD = 5, 7, 8, 32773, 50000


def packed(samples: Sequence[int], bits: int, *, little: bool = False) -> bytes:
    """Samples of `bits` side by side, the first one highest, filled up to whole bytes."""
    if bits == 16:
        return struct.pack(f"{'<' if little else '>'}{len(samples)}H", *samples)
    text = "".join(format(sample, f"0{bits}b") for sample in samples)
    return int(text.ljust(-(-len(text) // 8) * 8, "0") or "0", 2).to_bytes(-(-len(text) // 8), "big")


def flat(row: Sequence[Sequence[int]]) -> list[int]:
    return [sample for pixel in row for sample in pixel]


def chunk(kind: bytes, data: bytes, *, wrong: int = 0) -> bytes:
    """A chunk of a PNG; `wrong` spoils its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: left, top, step to the right, step down."""


def png(
    rows: Rows, *, bits: int, colour: int, before: bytes = b"", after: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG of colour type `colour`, with the chunks `before` and `after` its pixels."""
    passes = [rows]
    if interlaced:
        passes = [[row[left::right] for row in rows[top::down]] for left, top, right, down in PASSES]
    data = b"".join(b"\0" + packed(flat(row), bits) for part in passes for row in part if row)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, colour, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + pixels + after + chunk(b"IEND", b"")


def tiff(
    rows: Rows,
    *,
    bits: int,
    photometric: int,
    order: str = "<",
    compression: int = 1,
    compress: Callable[[bytes], bytes] = bytes,
    planar: bool = False,
    rows_per_strip: int = 0,
    reverse: bool = False,
    **more: int | Sequence[int],
) -> bytes:
    """A TIFF in strips; `more` are further entries, as `t338=2`."""
    height, width, samples = len(rows), len(rows[0]), len(rows[0][0])
    planes = [[[pixel[at : at + 1] for pixel in row] for row in rows] for at in range(samples)] if planar else [rows]
    step = rows_per_strip or height
    strips = []
    for plane in planes:
        for top in range(0, height, step):
            data = b"".join(packed(flat(row), bits, little=order == "<") for row in plane[top : top + step])
            strips.append(compress(bytes(int(f"{byte:08b}"[::-1], 2) for byte in data) if reverse else data))
    tags = {256: width, 257: height, 258: [bits] * samples, 259: compression, 262: photometric, 277: samples, 278: step}
    tags |= {
        284: 2 if planar else 1,
        266: 2 if reverse else 1,
        **{int(name[1:]): value for name, value in more.items()},
    }
    return directory(tags, strips, order=order)


def directory(tags: dict[int, int | Sequence[int]], strips: Sequence[bytes], *, order: str = "<", tiled: bool = False):
    """A TIFF of these tags and strips, or tiles; all numbers are LONG but bits, samples and the like."""
    offsets, lengths = (324, 325) if tiled else (273, 279)
    tags = {**tags, offsets: [0] * len(strips), lengths: [len(strip) for strip in strips]}
    at = 8 + 2 + 12 * len(tags) + 4
    entries, outside = b"", b""
    pixels_at = at + sum(4 * len(value) for value in tags.values() if not isinstance(value, int) and len(value) > 1)
    tags[offsets] = [pixels_at + sum(map(len, strips[:index])) for index in range(len(strips))]
    for tag in sorted(tags):
        value = tags[tag]
        values = [value] if isinstance(value, int) else list(value)
        kind = LONG if tag in (256, 257, 278, 273, 279, 322, 323, 324, 325, 254) else SHORT
        data = struct.pack(f"{order}{len(values)}{'I' if kind == LONG else 'H'}", *values)
        if len(data) > 4:
            place = struct.pack(f"{order}I", at + len(outside))
            outside += data.ljust(4 * len(values), b"\0")
        else:
            place = data.ljust(4, b"\0")
            if len(values) > 1:
                outside += bytes(4 * len(values))
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4)
    return head + outside + b"".join(strips)


def bmp(
    rows: Sequence[bytes],
    *,
    width: int,
    bits: int,
    header: int = 40,
    compression: int = 0,
    colours: Sequence[bytes] = (),
    masks: Sequence[int] = (),
    down: bool = False,
    data: bytes | None = None,
) -> bytes:
    """A BMP of rows of bytes, top first; `colours` are its palette, three bytes each (blue first)."""
    lines = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows]
    pixels = b"".join(lines if down else lines[::-1]) if data is None else data
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, len(rows), 1, bits)
        palette = b"".join(colours)
    else:
        height = -len(rows) if down else len(rows)
        info = struct.pack(
            "<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, len(colours), 0
        )
        info = (info + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
        palette = b"".join(colour + b"\0" for colour in colours)
    at = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + info + palette + pixels


def gif(
    rows: Rows,
    *,
    colours: Sequence[bytes],
    control: bytes = b"",
    before: bytes = b"",
    canvas: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
    own_colours: Sequence[bytes] = (),
) -> bytes:
    """A GIF of one frame of at most four colours; `own_colours` are the frame's. Every code is preceded by a clear."""
    height, width = len(rows), len(rows[0])
    codes = [code for index in flat([pixel for row in rows for pixel in row]) for code in (4, index)]
    bits = "".join(format(code, "03b")[::-1] for code in [*codes, 5])
    data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes((len(data[at : at + 255]),)) + data[at : at + 255] for at in range(0, len(data), 255))
    screen = struct.pack("<HHBBB", *(canvas or (width, height)), 0x81 if colours else 0, 0, 0)
    frame = struct.pack("<HHHHB", *at, width, height, 0x81 if own_colours else 0)
    shown = b"".join(own_colours)
    return b"GIF89a" + screen + b"".join(colours) + before + control + b"," + frame + shown + b"\2" + blocks + b"\0;"

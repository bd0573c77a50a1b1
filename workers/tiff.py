"""How large the tiles of a TIFF are: the decoder makes room for whole tiles, however small the image is.

Read from the bytes of the first directory, of all entries that name a side: which of two entries counts, and which
types of numbers, is a thing that Pillow (who reads the header) and libtiff (who decodes) need not agree on.
"""

import struct

TILE_WIDTH, TILE_LENGTH = 322, 323
SHORT, LONG = 3, 4

SMALL_PX = 4096 * 4096
"""Images are padded to whole tiles; up to so many pixels in any proportion, as a thumbnail in one large tile."""

PADDING_MAX = 4
"""Beyond that, so many times the image's own pixels at most: a long panorama in tiles of 1024 has less than three."""


def tile_size(content: bytes) -> tuple[int, int]:
    """Width and height of the tiles, pixels; zeros when the image is in strips, which are no larger than the image.

    Raises ValueError or struct.error when a side is not one number, as TIFF 6.0 (section 15) wants it.
    """
    order = ">" if content.startswith(b"MM") else "<"
    big = b"+" in content[2:4]  # BigTIFF: 43 instead of 42
    at = struct.unpack_from(f"{order}Q" if big else f"{order}I", content, 8 if big else 4)[0]
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", content, at)[0]
    entry = struct.Struct(f"{order}HHQ8s" if big else f"{order}HHI4s")
    entries = content[at + (8 if big else 2) :][: count * entry.size]
    sides = {TILE_WIDTH: 0, TILE_LENGTH: 0}
    for tag, kind, values, value in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
        if tag in sides:
            sides[tag] = max(sides[tag], _number(order, kind, values, value))
    return sides[TILE_WIDTH], sides[TILE_LENGTH]


def too_much(size: tuple[int, int], tile: tuple[int, int], *, max_pixels: int) -> bool:
    """True when a tile is larger than an image may be, or the image padded to whole tiles is out of proportion."""
    if 0 in tile:
        return False
    width_px, height_px = (-(-side // step) * step for side, step in zip(size, tile, strict=True))
    return tile[0] * tile[1] > max_pixels or width_px * height_px > max(SMALL_PX, PADDING_MAX * size[0] * size[1])


def _number(order: str, kind: int, values: int, value: bytes) -> int:
    if values != 1 or kind not in (SHORT, LONG):
        raise ValueError("a tile's side is no number")
    number: int = struct.unpack_from(f"{order}H" if kind == SHORT else f"{order}I", value)[0]
    return number

"""TIFF: the first directory, whether all of its pixels came, and how large its tiles are.

Read from the bytes, since Pillow (who reads the header) and libtiff (who decodes) need not agree on which of two
entries counts, or on which types of numbers.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from lowtide.workers.images import libtiff
from lowtide.workers.images.plan import Plan, cut_off, damaged, unsupported
from lowtide.workers.images.tiff_kinds import NONE, Look, Tag, Tags, look_of

SHORT, LONG, RATIONAL = 3, 4, 5
NUMBERS = {1: "B", SHORT: "H", LONG: "I", RATIONAL: "II", 16: "Q"}

READ = frozenset(Tag) - {Tag.TILE_WIDTH, Tag.TILE_HEIGHT}

SMALL_PX = 4096 * 4096
"""Images are padded to whole tiles; up to so many pixels in any proportion, as a thumbnail in one large tile."""

PADDING_MAX = 4
"""Beyond that, so many times the image's own pixels at most: a long panorama in tiles of 1024 has less than three."""

ENTRIES_MAX = 0xFFFF
"""As many as a directory can have that is not a BigTIFF's."""

PLACES_MAX = 500_000
"""Strips or tiles: twice the tiles of 16 x 16 that an image of 64 million pixels has."""

VALUES_MAX = 0x300
"""Of other entries: a palette has the most. Many may share their bytes, and take nine times as much here."""

PLACES = (Tag.STRIP_OFFSETS, Tag.STRIP_LENGTHS, Tag.TILE_OFFSETS, Tag.TILE_LENGTHS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffEntry:
    """One entry of a directory: `count` values of type `kind`, at byte `at`."""

    tag: int
    kind: int
    count: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The first directory of a TIFF. `order`: of bytes, as `struct` spells it."""

    content: bytes = field(repr=False)
    order: str
    entries: tuple[TiffEntry, ...]

    def tags(self) -> Tags:
        """What the entries say that have a `Tag`, but for tiles' sides. Raises ContentError for two that differ."""
        found: dict[int, tuple[int, ...]] = {}
        for entry in self.entries:
            if entry.tag in READ and entry.kind in NUMBERS:
                values = self._values(entry)
                if found.setdefault(entry.tag, values) != values:
                    raise damaged(f"it has two entries for {Tag(entry.tag).name}")
        return found

    def tile(self) -> tuple[int, int]:
        """Width and height of the tiles, pixels; zeros when the image is in strips. Raises ContentError when a side is
        not one number, as TIFF 6.0 (section 15) wants it.
        """
        return self._side(Tag.TILE_WIDTH), self._side(Tag.TILE_HEIGHT)

    def _side(self, tag: Tag) -> int:
        sides = [entry for entry in self.entries if entry.tag == tag]
        if any(side.count != 1 or side.kind not in (SHORT, LONG) for side in sides):
            raise damaged("a tile's side is no number")
        return max((self._values(side)[0] for side in sides), default=0)

    def _values(self, entry: TiffEntry) -> tuple[int, ...]:
        if entry.count > (PLACES_MAX if entry.tag in PLACES else VALUES_MAX):
            raise unsupported(f"a TIFF of {entry.count:,} values in one entry")
        form = NUMBERS[entry.kind]
        numbers = struct.Struct(f"{self.order}{len(form) * entry.count}{form[0]}")
        if entry.at + numbers.size > len(self.content):
            raise cut_off(self.content, wanted_bytes=entry.at + numbers.size)
        values = numbers.unpack_from(self.content, entry.at)
        if entry.kind == RATIONAL:
            return tuple(top // max(bottom, 1) for top, bottom in zip(values[::2], values[1::2], strict=True))
        return values


def plan(content: bytes) -> Plan:
    """Raises ContentError: what is cut off, damaged, or not supported."""
    directory = directory_of(content)
    tile, tags = directory.tile(), directory.tags()
    look = look_of(content, tags, little=directory.order == "<")
    if look.compression != NONE and not libtiff.QUIET:
        raise unsupported("compression in a TIFF, by the libtiff of this machine,")
    _check_pixels(content, tags, look, tile)
    return Plan(
        content=_as_black_is_zero(directory) if look.inverted else content,
        size=look.size,
        tile=tile,
        decoder_bytes=look.decoder_bytes(tile),
        white=look.white,
        inverted=look.inverted,
    )


def directory_of(content: bytes) -> Directory:
    """The first directory. Raises ContentError when it is not there."""
    order = ">" if content.startswith(b"MM") else "<"
    big = b"+" in content[2:4]  # BigTIFF: 43 instead of 42
    at = _unpacked(f"{order}Q" if big else f"{order}I", content, 8 if big else 4)[0]
    count = _unpacked(f"{order}Q" if big else f"{order}H", content, at)[0]
    if count > ENTRIES_MAX:
        raise damaged(f"its directory has {count:,} entries")
    entry = struct.Struct(f"{order}HHQ8s" if big else f"{order}HHI4s")
    start = at + (8 if big else 2)
    if start + count * entry.size > len(content):
        raise cut_off(content, wanted_bytes=start + count * entry.size)
    return Directory(content=content, order=order, entries=tuple(_entries(content, order, entry, start, count)))


def _entries(content: bytes, order: str, entry: struct.Struct, start: int, count: int) -> Iterator[TiffEntry]:
    inline = entry.size - (12 if entry.size == 20 else 8)
    for index in range(count):
        at = start + index * entry.size
        tag, kind, values, value = entry.unpack_from(content, at)
        place = at + entry.size - inline
        if kind in NUMBERS and values * struct.calcsize(NUMBERS[kind]) > inline:
            place = struct.unpack(f"{order}Q" if inline == 8 else f"{order}I", value)[0]
        yield TiffEntry(tag=tag, kind=kind, count=values, at=place)


def _unpacked(form: str, content: bytes, at: int) -> tuple[int, ...]:
    end = at + struct.calcsize(form)
    if end > len(content):
        raise cut_off(content, wanted_bytes=end)
    return struct.unpack_from(form, content, at)


def too_much(size: tuple[int, int], tile: tuple[int, int], *, max_pixels: int) -> bool:
    """True when a tile is larger than an image may be, or the image padded to whole tiles is out of proportion."""
    if 0 in tile:
        return False
    width_px, height_px = (-(-side // step) * step for side, step in zip(size, tile, strict=True))
    return tile[0] * tile[1] > max_pixels or width_px * height_px > max(SMALL_PX, PADDING_MAX * size[0] * size[1])


def _check_pixels(content: bytes, tags: Tags, look: Look, tile: tuple[int, int]) -> None:
    """Every strip or tile is there, whole, and as long as its pixels are where they are not compressed."""
    tiled = all(tile)
    offsets = tags.get(Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS, ())
    lengths = tags.get(Tag.TILE_LENGTHS if tiled else Tag.STRIP_LENGTHS, ())
    if tiled and Tag.STRIP_OFFSETS in tags:
        raise damaged("it has both strips and tiles")
    rows = tile[1] if tiled else min(tags.get(Tag.ROWS_PER_STRIP, (look.size[1],))[0], look.size[1])
    across = math.ceil(look.size[0] / tile[0]) if tiled else 1
    down = math.ceil(look.size[1] / rows) if rows else 0
    if not len(offsets) == len(lengths) == across * down * look.planes:
        raise damaged(f"it has {len(offsets)} strips or tiles instead of {across * down * look.planes}")
    if (end := max(map(sum, zip(offsets, lengths, strict=True)))) > len(content):
        raise cut_off(content, wanted_bytes=end)
    if look.compression == NONE:
        _check_lengths(lengths, look, width_px=tile[0] if tiled else look.size[0], rows=rows, tiled=tiled)


def _check_lengths(lengths: tuple[int, ...], look: Look, *, width_px: int, rows: int, tiled: bool) -> None:
    per_plane = len(lengths) // look.planes
    last_rows = rows if tiled else look.size[1] - rows * (per_plane - 1)
    for index, length in enumerate(lengths):
        wanted = look.row_bytes(width_px) * (last_rows if (index + 1) % per_plane == 0 else rows)
        if length < wanted:
            raise damaged(f"a strip or tile has {length:,} bytes instead of {wanted:,}")


def _as_black_is_zero(directory: Directory) -> bytes:
    """Pillow reads deep grey only if black is zero; `plain` inverts it."""
    content = bytearray(directory.content)
    for entry in directory.entries:
        if entry.tag == Tag.PHOTOMETRIC:
            struct.pack_into(f"{directory.order}{NUMBERS[entry.kind]}", content, entry.at, 1)
    return bytes(content)

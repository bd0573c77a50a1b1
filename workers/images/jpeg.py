"""JPEG: which kinds are decoded, without the segments that are no part of the picture, and how many scans it has."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from lowtide.workers.images.plan import Plan, cut_off, damaged, unsupported

SCANS_MAX = 100
"""Encoders write about ten. Libtiff allows as many in a JPEG inside a TIFF (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER)."""

TABLES_MAX = 1000
"""In the header. There is room for twelve at a time; a table of four bytes in a file takes a hundred here."""

MAGIC = b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
JFIF, EXIF, ADOBE = 0xE0, 0xE1, 0xEE
JFIF_1 = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
"""Version 1.01, whatever a file says: libjpeg warns of any other, and then of nothing more."""

RESTART_INTERVAL = 0xDD
RESTARTS = range(0xD0, 0xD8)
NEEDED = (0xC4, 0xCC, 0xDB, RESTART_INTERVAL)
"""Tables (Huffman, arithmetic, quantization) and the restart interval (ITU-T T.81, table B.1)."""

BASELINE, PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
FRAMES = {
    **dict.fromkeys((*BASELINE, *PROGRESSIVE), ""),
    0xC3: "lossless JPEG",
    0xCB: "lossless JPEG",
    0xF7: "JPEG-LS",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical JPEG"),
}
"""Markers that begin a frame, and what is not supported about it."""

# Of a marker that begins a segment, or ends the image (ITU-T T.81, table B.1). What else follows 0xFF is data of a
# scan, or an error to libjpeg.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])", re.DOTALL)


class Segment(NamedTuple):
    """One segment of the header, at byte `at`; `body` is what follows its length, empty for a scan."""

    kind: int
    at: int
    body: bytes = b""

    def as_bytes(self) -> bytes:
        """The segment as it stands in a file."""
        return bytes((0xFF, self.kind)) + (len(self.body) + 2).to_bytes(2) + self.body


def plan(content: bytes) -> Plan:
    """Raises ContentError: what is cut off, or not supported.

    Only what libjpeg needs is kept of the header, and one segment of Exif for its orientation: what cameras and editors
    add may be short, broken or huge.
    """
    kept: dict[int, bytes] = {}
    tables: list[bytes] = []
    frame = scan_at = None
    for segment in _header(content):
        if segment.kind == START_OF_SCAN:
            scan_at = segment.at
        elif segment.kind in FRAMES:
            if frame:
                raise damaged("it has two frames")
            frame = segment
            tables.append(segment.as_bytes())
        elif segment.kind in NEEDED:
            tables.append(segment.as_bytes())
        elif _is_application(segment):
            kept.setdefault(segment.kind, JFIF_1 if segment.kind == JFIF else segment.as_bytes())
        if len(tables) > TABLES_MAX:
            raise unsupported(f"a JPEG of more than {TABLES_MAX:,} tables before its pixels")
    if scan_at is None:
        raise cut_off(content, missing="no pixel among them")
    if frame is None:
        raise damaged("pixels come before the frame's header")
    size, samples = _frame(frame, adobe=ADOBE in kept)
    return Plan(
        content=b"".join((MAGIC, *kept.values(), *tables, content[scan_at:])),
        size=size,
        # Coefficients of two bytes each, all scans long; chroma may be as large as luma.
        decoder_bytes=2 * samples * size[0] * size[1] if frame.kind in PROGRESSIVE else 0,
    )


def _header(content: bytes) -> Iterator[Segment]:
    """The segments up to the first scan, read as libjpeg does: what stands between two of them is skipped."""
    at = len(MAGIC)
    while (at := content.find(b"\xff", at)) >= 0:
        while content[at : at + 1] == b"\xff":
            at += 1
        kind = content[at] if at < len(content) else 0
        at += 1
        if kind == START_OF_SCAN:
            yield Segment(kind=kind, at=at - 2)
            return
        if kind < 0xC0 or 0xD0 <= kind <= END_OF_IMAGE:
            continue  # no segment; an end before the first scan ends a stream of tables, and the image comes after it
        length = int.from_bytes(content[at : at + 2])
        if at + max(length, 2) > len(content):
            return
        yield Segment(kind=kind, at=at - 2, body=content[at + 2 : at + length])
        at += max(length, 2)


def _is_application(segment: Segment) -> bool:
    """It says how colours are meant, or which way up the picture is, and is whole."""
    if segment.kind == JFIF:
        return segment.body.startswith(b"JFIF\0") and len(segment.body) >= 14
    if segment.kind == ADOBE:
        return segment.body.startswith(b"Adobe") and len(segment.body) >= 12
    return segment.kind == EXIF and segment.body.startswith(b"Exif\0\0")


def _frame(segment: Segment, *, adobe: bool) -> tuple[tuple[int, int], int]:
    """Width and height, and the number of components. Raises ContentError for what libjpeg does not decode."""
    if FRAMES[segment.kind]:
        raise unsupported(FRAMES[segment.kind])
    body = segment.body
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise damaged("the frame's header is too short")
    precision, height_px, width_px, components = body[0], *_sides(body), body[5]
    if precision != 8:
        raise unsupported(f"{precision}-bit JPEG")
    if not height_px:
        raise unsupported("a JPEG that gives its height behind its pixels")
    if components not in (1, 3, 4):
        raise unsupported(f"a JPEG of {components} components")
    if components == 4 and not adobe:
        raise unsupported("a JPEG of four inks that does not say, by an Adobe marker, which way round they are")
    factors = [body[7 + 3 * index] for index in range(components)]
    if any(0 in side or any(max(side) % each for each in side) for side in _apart(factors)):
        raise unsupported("a JPEG whose components differ by fractions in size")
    return (width_px, height_px), components


def _apart(factors: list[int]) -> tuple[list[int], list[int]]:
    """Sampling factors across, and down."""
    return [factor >> 4 for factor in factors], [factor & 15 for factor in factors]


def _sides(body: bytes) -> tuple[int, int]:
    return int.from_bytes(body[1:3]), int.from_bytes(body[3:5])


def restarts_are_there(content: bytes) -> bool:
    """Of a JPEG of one scan: every restart marker that its header asks for, in order."""
    header = {segment.kind: segment for segment in _header(content)}
    frame = next(segment.body for kind, segment in header.items() if kind in FRAMES)
    interval = int.from_bytes(header[RESTART_INTERVAL].body[:2]) if RESTART_INTERVAL in header else 0
    wanted = (_units(frame) - 1) // interval if interval else 0
    begin = header[START_OF_SCAN].at
    data = content[begin : content.find(b"\xff\xd9", begin)]
    found = [marker[1][0] for marker in re.finditer(rb"\xff([\xd0-\xd7])", data)]
    return found[:wanted] == [RESTARTS[number % 8] for number in range(wanted)]


def _units(frame: bytes) -> int:
    """The units that a scan of all components is made of, and restart intervals are counted in (T.81, A.2)."""
    height_px, width_px = _sides(frame)
    across, down = _apart([frame[7 + 3 * index] for index in range(frame[5])])
    unit_px = (8, 8) if frame[5] == 1 else (8 * max(across), 8 * max(down))
    return -(-width_px // unit_px[0]) * -(-height_px // unit_px[1])


def scans(content: bytes) -> int:
    """The scans of the image, which thumbnails in its metadata and what follows its end are not."""
    return scans_and_end(content)[0]


def scans_and_end(content: bytes) -> tuple[int, bool]:
    """The scans of the image, and whether its end came. Of zeros instead libjpeg would make pixels."""
    count, at = 0, len(MAGIC)
    while marker := _MARKER.search(content, at):
        kind, at = marker[1][0], marker.end()
        if kind != END_OF_IMAGE:
            count += kind == START_OF_SCAN
            at += int.from_bytes(content[at : at + 2])
        elif count:  # before the first scan it is the end of a stream of tables, and the image comes after it
            return count, True
    return count, False

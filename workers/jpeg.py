"""How many scans a JPEG has: each is a walk over all of its pixels, however few bytes it takes."""

import re

SCANS_MAX = 100
"""Encoders write about ten. Libtiff allows as many in a JPEG inside a TIFF (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER)."""

MAGIC = b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9

# Of a marker that begins a segment, or ends the image (ITU-T T.81, table B.1). What else follows 0xFF is data of a
# scan, or an error to libjpeg.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])", re.DOTALL)


def scans(content: bytes) -> int:
    """The scans of the image, which thumbnails in its metadata and what follows its end are not."""
    count, at = 0, len(MAGIC)
    while (marker := _MARKER.search(content, at)) and marker[1][0] != END_OF_IMAGE:
        count += marker[1][0] == START_OF_SCAN
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    return count

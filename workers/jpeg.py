"""What makes a JPEG slow to read: scans, each a walk over all of its pixels, and segments of EXIF."""

import re

SCANS_MAX = 100
"""Encoders write about ten. Libtiff allows as many in a JPEG inside a TIFF (LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER)."""

EXIF_MAX = 100
"""Cameras write one, of 64 kB at most. Pillow joins them, copying all that it has for each further one."""

MAGIC = b"\xff\xd8"
EXIF = b"Exif\0\0"
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9

# Of a marker that begins a segment, or ends the image (ITU-T T.81, table B.1). What else follows 0xFF is data of a
# scan, or an error to libjpeg.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])", re.DOTALL)


def scans(content: bytes) -> int:
    """The scans of the image, which thumbnails in its metadata and what follows its end are not."""
    count, at = 0, len(MAGIC)
    while marker := _MARKER.search(content, at):
        kind, at = marker[1][0], marker.end()
        if kind != END_OF_IMAGE:
            count += kind == START_OF_SCAN
            at += int.from_bytes(content[at : at + 2])
        elif count:  # before the first scan it is the end of a stream of tables, and the image comes after it
            break
    return count


def exif_segments(content: bytes) -> int:
    """At most so many of its segments are EXIF. Not by a walk: Pillow, which reads them, walks in its own way."""
    return content.count(EXIF)

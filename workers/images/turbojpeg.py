"""JPEG to pixels by libjpeg-turbo, with what it says of damage. Pillow asks the same library and drops that: it takes
the grey that stands for missing data for the picture.
"""

import re

import simplejpeg
from PIL import Image

from lowtide.workers.images import jpeg

FORMS = {"L": "GRAY", "RGB": "RGBX", "CMYK": "CMYK"}
"""Of Pillow's modes: samples as they lie in its memory, so that nothing is copied."""

EXTRANEOUS = re.compile("extraneous bytes before marker 0x(..)")


def decoded(content: bytes, *, mode: str, size: tuple[int, int]) -> Image.Image | None:
    """The picture in one of FORMS, in the smallest of libjpeg's sizes that has `size`: every pixel as Pillow makes it.

    None where only Pillow goes on: unusual sampling, harmless oddities, what no decoder can read. Raises ValueError in
    libjpeg's words: damage.
    """
    try:
        samples = simplejpeg.decode_jpeg(content, FORMS[mode], min_width=size[0], min_height=size[1])
    except ValueError as error:
        if _is_damage(str(error), content):
            raise
        return None
    height_px, width_px = samples.shape[:2]
    if mode == "CMYK":
        samples ^= 0xFF  # files with an Adobe marker, and no others get here, hold inks inverted
    stored = "RGBX" if mode == "RGB" else mode
    picture = Image.frombuffer(stored, (width_px, height_px), samples, "raw", stored, 0, 1)
    return Image.fromarrow(picture, "RGB", picture.size) if mode == "RGB" else picture


def _is_damage(told: str, content: bytes) -> bool:
    """Libjpeg tells of its first warning only, so a harmless one must leave no room for another behind it.

    Harmless: what cameras and scanners write between the end of the data and the next marker.
    """
    if not told.startswith("Corrupt JPEG data"):
        return False
    padded = EXTRANEOUS.search(told)
    if not padded:
        return True
    marker = int(padded[1], 16)
    if marker == jpeg.END_OF_IMAGE:
        return False
    return jpeg.scans(content) > 1 or (marker in jpeg.RESTARTS and not jpeg.restarts_are_there(content))

"""JPEGs of the table."""

from collections.abc import Iterator

from PIL import Image

from tests.pictures.table import LOSSY, REFUSED, Row, Truth, merged, saved, shown


def jpegs() -> Iterator[tuple[bytes, Truth | str]]:
    for mode in ("L", "RGB"):
        for options in ({}, {"progressive": True}, {"subsampling": 2}, {"keep_rgb": True}, {"restart_marker_rows": 1}):
            yield saved(merged(mode), "JPEG", **{"quality": 98, "subsampling": 0, **options}), shown(merged(mode))


def jpeg_inks() -> Iterator[tuple[bytes, Truth | str]]:
    for progressive in (False, True):
        image = merged("CMYK")
        yield saved(image, "JPEG", quality=98, subsampling=0, progressive=progressive), shown(image)
    yield ycck(image), shown(image)


def ycck(image: Image.Image) -> bytes:
    """What Photoshop writes: YCbCr of the inks, and black, all of it inverted (as Pillow does when it writes)."""
    cyan, magenta, yellow, black = image.split()
    luma = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    stored = Image.merge("CMYK", (*(band.point(lambda value: 255 - value) for band in luma), black))
    content = saved(stored, "JPEG", quality=98, subsampling=0)
    at = content.index(b"Adobe") + 11
    return content[:at] + b"\2" + content[at + 1 :]


def jpeg_bare_inks() -> Iterator[tuple[bytes, Truth | str]]:
    content = saved(merged("CMYK"), "JPEG")
    at = content.index(b"\xff\xee")
    yield content[:at] + content[at + 16 :], "four inks"


def jpeg_frames() -> Iterator[tuple[bytes, Truth | str]]:
    content = saved(merged("RGB"), "JPEG")
    at = content.index(b"\xff\xc0")
    yield content[: at + 4] + b"\x0c" + content[at + 5 :], "12-bit JPEG"
    frames = {0xC3: "lossless", 0xF7: "JPEG-LS", 0xC5: "hierarchical", 0xCB: "lossless"}
    for kind, word in frames.items():
        yield content[: at + 1] + bytes((kind,)) + content[at + 2 :], word
    yield content[: at + 5] + b"\0\0" + content[at + 7 :], "height"
    two = content[at + 10 : at + 16]
    yield content[:at] + b"\xff\xc0\0\x0e" + content[at + 4 : at + 9] + b"\2" + two + content[at + 19 :], "2 components"


ROWS = (
    Row(form="JPEG", picture="grey, YCbCr, RGB; baseline or progressive", tolerance=LOSSY, examples=jpegs),
    Row(form="JPEG", picture="CMYK, YCCK, with an Adobe marker", tolerance=LOSSY, examples=jpeg_inks),
    Row(
        form="JPEG",
        picture="four inks without an Adobe marker: decoders disagree",
        becomes=REFUSED,
        examples=jpeg_bare_inks,
    ),
    Row(form="JPEG", picture="12 bits, lossless, JPEG-LS, hierarchical", becomes=REFUSED, examples=jpeg_frames),
)

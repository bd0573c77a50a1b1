"""Bytes to an image: what a stranger sent becomes a plain picture, or a ContentError that says why it can't."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from PIL import Image, UnidentifiedImageError

from lowtide.tasks.errors import ContentError
from lowtide.tasks.inline import written_in_base64
from lowtide.workers import jpeg, tiff

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is tried. Pillow's other parsers are rarely used, so rarely attacked by those who would tell us; EPS runs
Ghostscript.
"""

MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
"""How files of these formats begin: with such a beginning, unreadable content was an image once."""

DECODER_ERRORS = (
    OSError,
    SyntaxError,  # its word for a broken PNG
    ValueError,
    struct.error,
    Warning,  # where warnings are errors, as in our tests
    # The above came up in 55,000 damaged files of ours; these are what careless parsing of others would raise.
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
)
"""What Pillow's parsers raise on damaged files."""

ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what undoes it (CIPA DC-008, 4.6.4 A; the same table as Pillow's ImageOps.exif_transpose)."""

# Pillow's own guard against decompression bombs is a fixed number that warns first; ours is a setting that refuses, and
# every image of a worker comes through here.
Image.MAX_IMAGE_PIXELS = None

# Of what strangers write into metadata Pillow warns tag by tag, past every log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

Mode = Literal["RGB", "L"]


def decode_image(content: bytes, *, max_pixels: int, mode: Mode = "RGB", enough_px: int | None = None) -> Image.Image:
    """The picture in `content` as eight bits per channel, upright; the first frame of an animation.

    Transparency is laid on white. With `enough_px`, a JPEG may come out smaller by 2, 4 or 8, but no side is below
    `enough_px`: it then decodes several times faster (libjpeg scales inside the inverse cosine transform).

    Raises ContentError of type `not_an_image`, `image_too_large`, `truncated_image`, `damaged_image` or
    `unsupported_image`. `max_pixels` is compared with the size in the header, and with that of a TIFF's tiles, and the
    scans of a JPEG are counted, before any pixel is decoded.
    """
    if content.startswith(jpeg.MAGIC):
        _check_exif(content)
    with _explained(content), _opened(content) as image:
        _check_size(image, max_pixels=max_pixels)
        if image.format == "TIFF":
            _check_tiles(image.size, content, max_pixels=max_pixels)
        if content.startswith(jpeg.MAGIC):  # Pillow's word for one with a second picture behind it is MPO
            _check_scans(content)
        if enough_px:
            image.draft(None, (enough_px, enough_px))  # does nothing unless the image is a JPEG
        image.load()
        return _plain(_upright(image), mode)


def pixels(picture: Image.Image) -> torch.Tensor:
    """uint8 (channels, height, width) of an RGB or L picture, contiguous.

    The same as torchvision's pil_to_tensor; a worker without torchvision models starts four seconds sooner without it.
    """
    width_px, height_px = picture.size
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(height_px, width_px, -1).permute(2, 0, 1).contiguous()


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """The image with its header read, not a pixel more."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        yield image


def _check_size(image: Image.Image, *, max_pixels: int) -> None:
    width_px, height_px = image.size
    if width_px * height_px > max_pixels:
        raise ContentError(
            f"the image is too large: {width_px} x {height_px} pixels, and at most {max_pixels:,} pixels are decoded",
            type="image_too_large",
        )


def _check_tiles(size: tuple[int, int], content: bytes, *, max_pixels: int) -> None:
    tile = tiff.tile_size(content)
    if tiff.too_much(size, tile, max_pixels=max_pixels):
        message = f"its tiles are too large: {tile[0]} x {tile[1]} pixels, for an image of {size[0]} x {size[1]}"
        raise ContentError(message, type="image_too_large")


def _check_exif(content: bytes) -> None:
    if (count := jpeg.exif_segments(content)) > jpeg.EXIF_MAX:
        message = f"the image has {count:,} segments of EXIF, and at most {jpeg.EXIF_MAX} are read"
        raise ContentError(message, type="unsupported_image")


def _check_scans(content: bytes) -> None:
    if (count := jpeg.scans(content)) > jpeg.SCANS_MAX:
        message = f"the image has {count:,} scans, and at most {jpeg.SCANS_MAX} are decoded"
        raise ContentError(message, type="unsupported_image")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
    except DECODER_ERRORS:
        return image  # broken metadata is no reason to refuse a good picture
    turn = TURNS.get(orientation or 0)
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image, mode: Mode) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ContentError("32 bits per channel are not supported: send 8 or 16", type="unsupported_image")
    if image.mode.startswith("I;16"):
        # convert("L") would clip at 255 instead of scaling; 65535 = 255 * 257.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image if image.mode == mode else image.convert(mode)


@contextmanager
def _explained(content: bytes) -> Iterator[None]:
    """Turns whatever the parsers raise into a ContentError."""
    try:
        yield
    except ContentError:
        raise
    except DECODER_ERRORS as error:
        raise _complaint(content, error) from error


def _complaint(content: bytes, error: BaseException) -> ContentError:
    if not content:
        return ContentError("the content is empty", type="not_an_image")
    if (written_in_base64(content) or b"").startswith(MAGIC):
        message = "the content is base64 text of an image: decode it, or send it in JSON as data"
        return ContentError(message, type="not_an_image")
    if not content.startswith(MAGIC):
        formats = ", ".join(FORMATS)
        return ContentError(f"the content is not an image of a known format ({formats})", type="not_an_image")
    if isinstance(error, UnidentifiedImageError) or "truncated" in str(error).lower():
        return ContentError(f"the image is cut off or damaged: {len(content):,} bytes came", type="truncated_image")
    return ContentError(f"the image is damaged: {error}", type="damaged_image")

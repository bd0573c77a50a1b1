"""Bytes to an image, step by step."""

import io
import logging
import mmap
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from PIL import Image, ImageFile, UnidentifiedImageError

from lowtide.tasks.errors import ContentError, MemoryShort
from lowtide.workers.images import bmp, gif, jpeg, libtiff, memory, png, tiff, turbojpeg, webp
from lowtide.workers.images.kinds import kind_of
from lowtide.workers.images.plain import Mode, plain
from lowtide.workers.images.plan import Plan, cut_off, damaged, unsupported

if TYPE_CHECKING:
    import torch

PLANS: dict[str, Callable[[bytes], Plan]] = {
    "JPEG": jpeg.plan,
    "PNG": png.plan,
    "WEBP": webp.plan,
    "GIF": gif.plan,
    "BMP": bmp.plan,
    "TIFF": tiff.plan,
}

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

# Of what strangers write into metadata Pillow warns and logs tag by tag.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def decode_image(content: bytes, *, max_pixels: int, mode: Mode = "RGB", enough_px: int | None = None) -> Image.Image:
    """The picture in `content` as eight bits per channel, upright; the first frame of an animation.

    Transparency is laid on white; docs/models.md lists what becomes of each kind of picture. With `enough_px`, a JPEG
    may come out smaller by 2, 4 or 8, but no side is below `enough_px`: it then decodes several times faster (libjpeg
    scales inside the inverse cosine transform).

    Raises ContentError of type `not_an_image`, `image_too_large`, `truncated_image`, `damaged_image` or
    `unsupported_image`, and MemoryShort, which another try may cure. `max_pixels` is compared with the size in the
    header, and with that of a TIFF's tiles, and the scans of a JPEG are counted, before any pixel is decoded.
    """
    kind = kind_of(content)
    with _explained(content):
        plan = _checked(PLANS[kind](content), max_pixels=max_pixels)
        if kind == "JPEG":
            _check_scans(content)
        with _memory_counts(plan), _opened(plan, kind) as image:
            _check_size(image.size, max_pixels=max_pixels)
            if enough_px:
                image.draft(None, (enough_px, enough_px))  # does nothing unless the image is a JPEG
            orientation = _orientation(image)
            memory.reserve(memory.needed_bytes(image, plan, mode=mode, turned=orientation in TURNS))
            picture = _decoded(image, plan, kind, mode)
            return _upright(picture, 0 if kind == "TIFF" else orientation)


def pixels(picture: Image.Image) -> "torch.Tensor":
    """uint8 (channels, height, width) of an RGB or L picture, contiguous.

    The same as torchvision's pil_to_tensor; without it, `digits` need not import torchvision.
    """
    import torch  # here, since reports are made of pictures where there is none

    width_px, height_px = picture.size
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(height_px, width_px, -1).permute(2, 0, 1).contiguous()


@contextmanager
def _opened(plan: Plan, kind: str) -> Iterator[Image.Image]:
    """The image with its header read, not a pixel more."""
    with Image.open(io.BytesIO(plan.content), formats=(kind,)) as image:
        yield image


def _check_size(size: tuple[int, int], *, max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise ContentError(
            f"the image is too large: {size[0]} x {size[1]} pixels, and at most {max_pixels:,} pixels are decoded",
            type="image_too_large",
        )


def _checked(plan: Plan, *, max_pixels: int) -> Plan:
    _check_size(plan.size, max_pixels=max_pixels)
    if tiff.too_much(plan.size, plan.tile, max_pixels=max_pixels):
        tile, size = plan.tile, plan.size
        message = f"its tiles are too large: {tile[0]} x {tile[1]} pixels, for an image of {size[0]} x {size[1]}"
        raise ContentError(message, type="image_too_large")
    return plan


def _check_scans(content: bytes) -> None:
    count, ended = jpeg.scans_and_end(content)
    if count > jpeg.SCANS_MAX:
        message = f"the image has {count:,} scans, and at most {jpeg.SCANS_MAX} are decoded"
        raise ContentError(message, type="unsupported_image")
    if not ended:
        raise cut_off(content)


def _decoded(image: Image.Image, plan: Plan, kind: str, mode: Mode) -> Image.Image:
    if kind == "JPEG" and (picture := turbojpeg.decoded(plan.content, mode=image.mode, size=image.size)):
        return plain(picture, plan, mode)
    with libtiff.errors_are_damage() if kind == "TIFF" else nullcontext():
        image.load()
    if kind == "PNG" and _ends_blank(image):
        png.check_rows(plan)
    low = _lower_bytes(plan) if plan.clear is not None and plan.clear_bits == 16 and image.mode == "RGB" else None
    return plain(image, plan, mode, low=low)


def _ends_blank(image: Image.Image) -> bool:
    return not any(image.crop((0, image.height - 1, image.width, image.height)).tobytes())


def _lower_bytes(plan: Plan) -> Image.Image:
    """Of a PNG of 16 bits per channel, of which Pillow keeps the upper ones."""
    with _opened(plan, "PNG") as low:
        assert isinstance(low, ImageFile.ImageFile)
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        low.load()
        return low


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION_TAG) or 0
    except DECODER_ERRORS:
        return 0  # broken metadata is no reason to refuse a good picture


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


@contextmanager
def _explained(content: bytes) -> Iterator[None]:
    """Turns whatever the parsers raise into a ContentError."""
    try:
        yield
    except ContentError:
        raise
    except MemoryError as error:
        raise MemoryShort("memory is too short to decode the image") from error
    except DECODER_ERRORS as error:
        raise _complaint(content, error) from error


@contextmanager
def _memory_counts(plan: Plan) -> Iterator[None]:
    """A native decoder that gets no memory says that the picture is broken: then memory is what is looked at."""
    try:
        yield
    except (ContentError, MemoryError):
        raise
    except DECODER_ERRORS as error:
        least_bytes = plan.decoder_bytes + 4 * plan.size[0] * plan.size[1]
        try:
            mmap.mmap(-1, least_bytes).close()
        except OSError:
            raise MemoryShort(f"memory is too short to decode the image: it takes {least_bytes:,} bytes") from error
        raise


def _complaint(content: bytes, error: BaseException) -> ContentError:
    if isinstance(error, UnidentifiedImageError):
        return unsupported("this variant of a known format")
    if "truncated" in str(error).lower():
        return cut_off(content)
    return damaged(str(error))

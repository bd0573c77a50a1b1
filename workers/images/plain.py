"""What a decoder made becomes eight bits on white: depths, colour spaces, alpha and transparent colours.

In bands of rows, so that a picture is never held in a third form.
"""

from collections.abc import Callable
from typing import Literal

from PIL import Image, ImageChops

from lowtide.workers.images.plan import Plan, unsupported

Mode = Literal["RGB", "L"]

BAND_PX = 1_000_000

WHITE = 255
OPAQUE = ("1", "L", "RGB", "P")
"""Modes that Pillow converts in one step."""


def plain(image: Image.Image, plan: Plan, mode: Mode, *, low: Image.Image | None = None) -> Image.Image:
    """`image` in `mode`, without alpha. `low`: the lower bytes of a picture of 16 bits whose upper ones are `image`.

    Raises ContentError for what is deeper than 16 bits.
    """
    picture = _banded(image, mode, convert) if (convert := _conversion(image, plan, low)) else _converted(image, mode)
    if plan.box:
        picture = _framed(picture, plan.box)
    return picture


def _converted(image: Image.Image, mode: Mode) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


Conversion = Callable[[Image.Image, tuple[int, int, int, int]], Image.Image]
"""A band of the picture, and where it was, to an opaque one in L or RGB."""


def _conversion(image: Image.Image, plan: Plan, low: Image.Image | None) -> Conversion | None:
    """What Pillow does not do in one step; None where it does."""
    if image.mode in ("I", "F"):
        raise unsupported("an image of more than 16 bits per channel", instead="8 or 16")
    if image.mode.startswith("I;16"):
        return lambda band, _: _shallow(band, plan)
    if plan.clear is not None:
        return lambda band, box: _keyed(band, plan, low.crop(box) if low else None)
    if image.has_transparency_data and not (plan.alpha_may_be_unused and _is_clear(image)):
        return lambda band, _: _on_white(band)
    if image.mode in OPAQUE:
        return None
    return lambda band, _: band.convert("RGB")


def _banded(image: Image.Image, mode: Mode, convert: Conversion) -> Image.Image:
    made = Image.new(mode, image.size)
    rows = max(1, BAND_PX // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        made.paste(_converted(convert(image.crop(box), box), mode), box)
    return made


def _is_clear(image: Image.Image) -> bool:
    return image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)


def _on_white(band: Image.Image) -> Image.Image:
    """Premultiplied colours (La, RGBa) are divided by their alpha first."""
    if band.mode == "La":
        band = band.convert("LA")
    over = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _shallow(band: Image.Image, plan: Plan) -> Image.Image:
    """Grey of more than eight bits, scaled; convert("L") alone would clip at 255."""
    deep = band.convert("I")
    scale, offset = (-WHITE / plan.white, WHITE) if plan.inverted else (WHITE / plan.white, 0)
    grey = deep.point(lambda value: value * scale + (offset + 0.5)).convert("L")
    if plan.clear is not None:
        grey.paste(WHITE, mask=_equal(deep, plan.clear[0]))
    return grey


def _equal(deep: Image.Image, wanted: int) -> Image.Image:
    """255 where a picture of mode I is `wanted`, else 0. Point operations on it are linear, and converting clips."""
    above = deep.point(lambda value: value * 1 - wanted).convert("L")
    below = deep.point(lambda value: value * -1 + wanted).convert("L")
    return ImageChops.lighter(above, below).point([WHITE] + [0] * WHITE)


def _keyed(band: Image.Image, plan: Plan, low: Image.Image | None) -> Image.Image:
    """White where a band has the transparent colour."""
    assert plan.clear is not None
    band = band.convert("L") if band.mode == "1" else band
    if low:
        wanted = [value >> 8 for value in plan.clear] + [value & 0xFF for value in plan.clear]
    else:
        wanted = [value * WHITE // ((1 << plan.clear_bits) - 1) for value in plan.clear]
    channels = [*band.split(), *(low.split() if low else ())]
    clear = None
    for channel, value in zip(channels, wanted, strict=True):
        same = channel.point([WHITE if shade == value else 0 for shade in range(WHITE + 1)])
        clear = ImageChops.darker(clear, same) if clear else same
    band.paste("white" if band.mode == "RGB" else WHITE, mask=clear)
    return band


def _framed(picture: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """White around what the first frame covers."""
    left, top, right, bottom = box
    width_px, height_px = picture.size
    white = "white" if picture.mode == "RGB" else WHITE
    for outside in (
        (0, 0, width_px, top),
        (0, bottom, width_px, height_px),
        (0, top, left, bottom),
        (right, top, width_px, bottom),
    ):
        if outside[0] < outside[2] and outside[1] < outside[3]:
            picture.paste(white, outside)
    return picture

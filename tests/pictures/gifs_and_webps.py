"""GIFs and WebPs of the table."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.pictures import write
from tests.pictures.table import LOSSY, REFUSED, Row, Truth, grid, looked_up, merged, on_white, saved, shown, smooth

FOUR = [b"\x00\x00\xff", b"\xff\x00\x00", b"\x00\xff\x00", b"\x0a\x14\x1e"]


def gifs() -> Iterator[tuple[bytes, Truth | str]]:
    rows = grid(1, 2)
    yield write.gif(rows, colours=FOUR), looked_up(rows, FOUR)
    yield write.gif(rows, colours=FOUR, own_colours=FOUR[::-1]), looked_up(rows, FOUR[::-1])
    yield write.gif(rows, colours=[], own_colours=FOUR), looked_up(rows, FOUR)
    ramp = [bytes((each,)) * 3 for each in range(4)]
    yield write.gif(rows, colours=ramp), looked_up(rows, ramp)
    comment = b"!\xfe" + (b"\xff" + b"c" * 255) * 9 + b"\0"
    yield write.gif(rows, colours=FOUR, before=comment + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"), looked_up(rows, FOUR)


def clear_gifs() -> Iterator[tuple[bytes, Truth | str]]:
    rows = grid(1, 2)
    truth = looked_up(rows, FOUR)
    truth[np.array(rows)[..., 0] == 2] = 255
    yield write.gif(rows, colours=FOUR, control=b"!\xf9\4\1\0\0\2\0"), truth
    canvas = np.full((12, 20, 3), 255)
    canvas[3:10, 4:15] = looked_up(rows, FOUR)
    yield write.gif(rows, colours=FOUR, canvas=(20, 12), at=(4, 3)), canvas


def bare_gifs() -> Iterator[tuple[bytes, Truth | str]]:
    yield write.gif(grid(1, 2), colours=[]), "without colours"


def webps() -> Iterator[tuple[bytes, Truth | str]]:
    yield saved(merged("RGB"), "WEBP", lossless=True), shown(merged("RGB"))
    rgba = merged("RGBA")
    pixels = smooth(4).astype(float)
    yield saved(rgba, "WEBP", lossless=True, exact=True), on_white(pixels[..., :3], pixels[..., 3:])
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    yield saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True), shown(frames[0])


def lossy_webps() -> Iterator[tuple[bytes, Truth | str]]:
    # Chroma of half the size: grey is what can be compared.
    image = Image.merge("RGB", [merged("L")] * 3)
    yield saved(image, "WEBP", quality=100), shown(image)


ROWS = (
    Row(form="GIF", picture="87a, 89a, animated", becomes="its first frame", examples=gifs),
    Row(
        form="GIF",
        picture="transparent colour, or a frame smaller than the canvas",
        becomes="itself, on white",
        examples=clear_gifs,
    ),
    Row(form="GIF", picture="without a table of colours", becomes=REFUSED, examples=bare_gifs),
    Row(
        form="WebP",
        picture="lossless, with alpha or without; animated",
        becomes="its first frame, on white",
        examples=webps,
    ),
    Row(form="WebP", picture="lossy", tolerance=LOSSY, examples=lossy_webps),
)

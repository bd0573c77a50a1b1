"""What the table of pictures in docs/models.md is made of, and the truth about pictures."""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.pictures.write import Rows

SIDE = (11, 7)
"""Odd, so that rows end within bytes."""

Truth = np.ndarray
"""float (height, width, 3), 0 … 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`examples`: contents, each with its truth, or a word of the refusal."""

    form: str
    picture: str
    becomes: str = "itself"
    tolerance: float = 1.0
    examples: Callable[[], Iterator[tuple[bytes, Truth | str]]]

    def __str__(self) -> str:
        return f"| {self.form} | {self.picture} | {self.becomes} |"


def grid(samples: int, bits: int) -> list[list[list[int]]]:
    chance = random.Random(f"{samples} {bits}")
    width, height = SIDE
    return [[[chance.randrange(1 << bits) for _ in range(samples)] for _ in range(width)] for _ in range(height)]


def shades(rows: Rows, bits: int) -> Truth:
    return np.array(rows, float) * 255 / ((1 << bits) - 1)


def grey(rows: Rows, bits: int) -> Truth:
    return np.repeat(shades(rows, bits)[..., :1], 3, axis=-1)


def on_white(colours: Truth, alpha: Truth) -> Truth:
    return colours * alpha / 255 + 255 - alpha


def inks(rows: Rows, bits: int) -> Truth:
    cmyk = shades(rows, bits)
    return (255 - cmyk[..., :3]) * (255 - cmyk[..., 3:4]) / 255


def palette(count: int) -> list[bytes]:
    chance = random.Random(count)
    return [chance.randbytes(3) for _ in range(count)]


def looked_up(rows: Rows, colours: Sequence[bytes]) -> Truth:
    return np.array([[list(colours[pixel[0]]) for pixel in row] for row in rows], float)


def smooth(samples: int) -> np.ndarray:
    """What lossy formats keep: uint8 (40, 48, samples)."""
    y, x = np.mgrid[:40, :48]
    waves = [(np.sin(x / 9 + each) + np.cos(y / 7 + 2 * each) + 2) * 63 for each in range(samples)]
    return np.stack(waves, -1).astype(np.uint8)


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def merged(mode: str) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.merge(mode, [Image.fromarray(smooth(bands)[..., band]) for band in range(bands)])


def shown(image: Image.Image) -> Truth:
    """As it would be without having been a file."""
    cmyk = image.mode == "CMYK"
    return inks([list(map(list, row)) for row in np.asarray(image)], 8) if cmyk else np.asarray(image.convert("RGB"))


REFUSED, NO_IMAGE = "`unsupported_image`", "`not_an_image`"

LOSSY = 14.0
"""Tolerance of formats that lose something of smooth pictures."""

"""PNGs of the table."""

import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from tests.pictures import write
from tests.pictures.table import REFUSED, Row, Truth, grey, grid, looked_up, on_white, palette, saved, shades
from tests.pictures.write import Rows, chunk


def pngs(colour: int, depths: Sequence[int], truth: Callable[[Rows, int], Truth]) -> Callable:
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour]

    def examples() -> Iterator[tuple[bytes, Truth | str]]:
        for bits in depths:
            for interlaced in (False, True):
                rows = grid(samples, bits)
                yield write.png(rows, bits=bits, colour=colour, interlaced=interlaced), truth(rows, bits)

    return examples


def png_palettes() -> Iterator[tuple[bytes, Truth | str]]:
    for bits in (1, 2, 4, 8):
        colours, rows = palette(1 << bits), grid(1, bits)
        alphas = np.array([17 * each % 256 for each in range(1 << bits)])
        alphas[(1 << bits) // 2 + 1 :] = 255  # what tRNS does not reach is opaque
        plte = chunk(b"PLTE", b"".join(colours))
        trns = chunk(b"tRNS", alphas[: (1 << bits) // 2 + 1].astype(np.uint8).tobytes())
        alpha = alphas[np.array(rows)[..., 0]][..., None]
        for interlaced in (False, True):
            options = {"bits": bits, "colour": 3, "interlaced": interlaced}
            yield write.png(rows, before=plte, **options), looked_up(rows, colours)
            yield write.png(rows, before=plte + trns, **options), on_white(looked_up(rows, colours), alpha)


def png_colour_keys() -> Iterator[tuple[bytes, Truth | str]]:
    for colour, samples, depths in ((0, 1, (1, 2, 4, 8, 16)), (2, 3, (8, 16))):
        for bits in depths:
            rows = grid(samples, bits)
            rows[0][1] = [sample ^ 1 for sample in rows[0][0]]  # alike in its upper bits
            rows[2][2] = rows[0][0]
            truth = grey(rows, bits) if colour == 0 else shades(rows, bits)
            truth[(np.array(rows) == rows[0][0]).all(-1)] = 255
            # Bits above the depth count for nothing.
            key = struct.pack(f">{samples}H", *(sample | (0xAA00 if bits <= 8 else 0) for sample in rows[0][0]))
            for interlaced in (False, True):
                before = chunk(b"tRNS", key)
                yield write.png(rows, bits=bits, colour=colour, before=before, interlaced=interlaced), truth


def apngs() -> Iterator[tuple[bytes, Truth | str]]:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield content, np.full((8, 8, 3), (255, 0, 0))
    yield (
        saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True),
        np.full((8, 8, 3), (255, 0, 0)),
    )


def cgbi() -> Iterator[tuple[bytes, Truth | str]]:
    content = write.png(grid(3, 8), bits=8, colour=2)
    yield content[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + content[8:], "CgBI"


ROWS = (
    Row(form="PNG", picture="grey of 1, 2, 4, 8, 16 bits", examples=pngs(0, (1, 2, 4, 8, 16), grey)),
    Row(form="PNG", picture="RGB of 8, 16 bits", examples=pngs(2, (8, 16), shades)),
    Row(form="PNG", picture="palette of 1, 2, 4, 8 bits, with alpha or without", examples=png_palettes),
    Row(form="PNG", picture="one transparent colour (tRNS), by all of its bits", examples=png_colour_keys),
    Row(
        form="PNG",
        picture="grey or RGB with alpha, of 8, 16 bits",
        tolerance=2.2,
        examples=lambda: (
            *pngs(4, (8, 16), lambda rows, bits: on_white(grey(rows, bits), shades(rows, bits)[..., 1:]))(),
            *pngs(6, (8, 16), lambda rows, bits: on_white(shades(rows, bits)[..., :3], shades(rows, bits)[..., 3:]))(),
        ),
    ),
    Row(form="PNG", picture="animated (APNG)", becomes="the picture for viewers that don't know APNG", examples=apngs),
    Row(form="PNG", picture="CgBI (Apple's, in iOS apps)", becomes=REFUSED, examples=cgbi),
)

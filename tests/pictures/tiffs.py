"""TIFFs of the table that are decoded."""

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from tests.pictures import write
from tests.pictures.table import (
    LOSSY,
    SIDE,
    Row,
    Truth,
    grey,
    grid,
    inks,
    looked_up,
    merged,
    on_white,
    palette,
    saved,
    shades,
    shown,
    smooth,
)
from tests.pictures.write import flat, packed

ORDERS = ("<", ">")
PLAIN = ((1, bytes), (write.DEFLATE, zlib.compress))


def tiffs(
    photometric: int, depths: Sequence[int], truth: Callable, *, extra: tuple[int, ...] = (), samples: int
) -> Callable:
    def examples() -> Iterator[tuple[bytes, Truth | str]]:
        for bits in depths:
            for order in ORDERS:
                if bits == 12 and order == ">":
                    continue
                for compression, compress in PLAIN:
                    for rows_per_strip in (0, 3):
                        rows = grid(samples, bits)
                        if extra[:1] == (1,):  # premultiplied
                            colours = len(rows[0][0]) - len(extra)
                            rows = [
                                [[*(min(s, p[colours]) for s in p[:colours]), *p[colours:]] for p in row]
                                for row in rows
                            ]
                        options = {"t338": list(extra)} if extra else {}
                        yield (
                            write.tiff(
                                rows,
                                bits=bits,
                                photometric=photometric,
                                order=order,
                                compression=compression,
                                compress=compress,
                                rows_per_strip=rows_per_strip,
                                **options,
                            ),
                            truth(rows, bits),
                        )

    return examples


def tiff_tiles() -> Iterator[tuple[bytes, Truth | str]]:
    for photometric, samples, bits, truth in ((1, 1, 1, grey), (1, 1, 16, grey), (2, 3, 8, shades), (5, 4, 8, inks)):
        for order in ORDERS:
            for compression, compress in PLAIN:
                rows = grid(samples, bits)
                blank = [[0] * samples]
                padded = [row + blank * (16 - len(row)) for row in rows] + [blank * 16] * (16 - len(rows))
                tile = compress(b"".join(packed(flat(row), bits, little=order == "<") for row in padded))
                tags = {256: SIDE[0], 257: SIDE[1], 258: [bits] * samples, 259: compression, 262: photometric}
                tags |= {277: samples, 322: 16, 323: 16}
                yield write.directory(tags, [tile], order=order, tiled=True), truth(rows, bits)


def tiff_planes() -> Iterator[tuple[bytes, Truth | str]]:
    for photometric, samples, truth in ((2, 3, shades), (5, 4, inks)):
        for compression, compress in PLAIN:
            rows = grid(samples, 8)
            options = {"bits": 8, "photometric": photometric, "compression": compression, "compress": compress}
            yield write.tiff(rows, planar=True, rows_per_strip=3, **options), truth(rows, 8)


def tiff_compressions() -> Iterator[tuple[bytes, Truth | str]]:
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "zstd"):
        for mode in ("L", "RGB", "CMYK"):
            yield saved(merged(mode), "TIFF", compression=compression), shown(merged(mode))
            if compression != "packbits":
                predicted = saved(merged(mode), "TIFF", compression=compression, tiffinfo={317: 2})
                yield predicted, shown(merged(mode))
    bilevel = merged("L").convert("1")
    for compression in ("tiff_ccitt", "group3", "group4"):
        yield saved(bilevel, "TIFF", compression=compression), shown(bilevel)


def tiff_jpegs() -> Iterator[tuple[bytes, Truth | str]]:
    for mode in ("L", "RGB", "YCbCr", "CMYK"):
        yield saved(merged(mode), "TIFF", compression="jpeg", quality=98), shown(merged(mode))


def tiff_cameras() -> Iterator[tuple[bytes, Truth | str]]:
    for white in (1023, 4095):
        for photometric in (0, 1):
            rows = [[[sample % (white + 1) for sample in pixel] for pixel in row] for row in grid(1, 16)]
            shade = np.repeat(np.array(rows) * 255 / white, 3, -1)
            for order in ORDERS:
                content = write.tiff(rows, bits=16, photometric=photometric, order=order, t281=white)
                yield content, shade if photometric else 255 - shade


def tiff_palettes() -> Iterator[tuple[bytes, Truth | str]]:
    for bits in (1, 2, 4, 8):
        colours, rows = palette(1 << bits), grid(1, bits)
        map_ = [colour[channel] * 257 for channel in range(3) for colour in colours]
        for order in ORDERS:
            yield write.tiff(rows, bits=bits, photometric=3, order=order, t320=map_), looked_up(rows, colours)


LAB_STEP = 11.0
"""What one step of a* or b* is in the blue of dark colours."""

SRGB_TO_XYZ = np.array(
    ((0.4360747, 0.3850649, 0.1430804), (0.2225045, 0.7168786, 0.0606169), (0.0139322, 0.0971045, 0.7141733))
)
"""Linear sRGB to XYZ under D50 (Bradford), which is white in CIELAB."""


def lab_of(colours: Truth) -> np.ndarray:
    """CIE 1976 L*, a*, b*."""
    part = colours / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    x, y, z = np.moveaxis(np.cbrt(linear @ SRGB_TO_XYZ.T / SRGB_TO_XYZ.sum(axis=1)), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def tiff_lab() -> Iterator[tuple[bytes, Truth | str]]:
    truth = 60 + smooth(3) / 2.0  # light enough for the formula without its dark end
    lab = lab_of(truth)
    stored = np.stack([lab[..., 0] * 2.55, lab[..., 1] % 256, lab[..., 2] % 256], -1).round().astype(int) % 256
    yield write.tiff(stored.tolist(), bits=8, photometric=8), truth


def tiff_pages() -> Iterator[tuple[bytes, Truth | str]]:
    pages = [merged("RGB"), Image.new("RGB", (8, 8))]
    yield saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]), shown(pages[0])
    yield saved(pages[0], "TIFF", big_tiff=True), shown(pages[0])


ROWS = (
    Row(
        form="TIFF",
        picture="grey of 1, 2, 4, 8, 12, 16 bits, black is 0",
        examples=tiffs(1, (1, 2, 4, 8, 12, 16), grey, samples=1),
    ),
    Row(
        form="TIFF",
        picture="grey of 1, 2, 4, 8, 12, 16 bits, white is 0",
        examples=tiffs(0, (1, 2, 4, 8, 12, 16), lambda rows, bits: 255 - grey(rows, bits), samples=1),
    ),
    Row(
        form="TIFF",
        picture="grey of 16 bits whose MaxSampleValue is 1023, 4095, …",
        becomes="itself, up to that value",
        examples=tiff_cameras,
    ),
    Row(form="TIFF", picture="RGB of 8, 16 bits", examples=tiffs(2, (8, 16), shades, samples=3)),
    Row(
        form="TIFF",
        picture="grey of 8, RGB of 8, 16 bits, with alpha",
        becomes="itself, on white",
        tolerance=2.2,
        examples=lambda: (
            *tiffs(1, (8,), lambda r, b: on_white(grey(r, b), shades(r, b)[..., 1:]), extra=(2,), samples=2)(),
            *tiffs(
                2, (8, 16), lambda r, b: on_white(shades(r, b)[..., :3], shades(r, b)[..., 3:]), extra=(2,), samples=4
            )(),
        ),
    ),
    Row(
        form="TIFF",
        picture="the same with premultiplied (associated) alpha",
        becomes="itself, on white",
        tolerance=3.0,
        examples=lambda: (
            *tiffs(1, (8,), lambda r, b: grey(r, b) + 255 - shades(r, b)[..., 1:], extra=(1,), samples=2)(),
            *tiffs(
                2, (8, 16), lambda r, b: shades(r, b)[..., :3] + 255 - shades(r, b)[..., 3:], extra=(1,), samples=4
            )(),
        ),
    ),
    Row(
        form="TIFF",
        picture="the same with an extra sample that is said to be no alpha",
        becomes="itself, without it",
        examples=lambda: (
            *tiffs(1, (8,), grey, extra=(0,), samples=2)(),
            *tiffs(2, (8, 16), lambda rows, bits: shades(rows, bits)[..., :3], extra=(0,), samples=4)(),
            *tiffs(5, (8,), inks, extra=(0,), samples=5)(),
        ),
    ),
    Row(form="TIFF", picture="palette of 1, 2, 4, 8 bits", examples=tiff_palettes),
    Row(form="TIFF", picture="CMYK of 8, 16 bits", tolerance=2.0, examples=tiffs(5, (8, 16), inks, samples=4)),
    Row(form="TIFF", picture="CIELAB of 8 bits", tolerance=LAB_STEP, examples=tiff_lab),
    Row(form="TIFF", picture="in tiles", examples=tiff_tiles),
    Row(form="TIFF", picture="RGB, CMYK of 8 bits in separate planes", examples=tiff_planes),
    Row(
        form="TIFF",
        picture="LZW, deflate, Zstandard, PackBits, CCITT (fax); with a predictor",
        examples=tiff_compressions,
    ),
    Row(form="TIFF", picture="JPEG inside, YCbCr too", tolerance=LOSSY, examples=tiff_jpegs),
    Row(form="TIFF", picture="several pages; BigTIFF", becomes="its first page", examples=tiff_pages),
)

"""BMPs of the table."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tests.pictures import write
from tests.pictures.table import REFUSED, SIDE, Row, Truth, grid, looked_up, on_white, palette
from tests.pictures.write import flat, packed

HEADERS = (40, 52, 56, 64, 108, 124)


def bmp_palettes() -> Iterator[tuple[bytes, Truth | str]]:
    for bits in (1, 4, 8):
        black_and_white = [b"\0\0\0", b"\xff\xff\xff"]
        for colours in (palette(1 << bits), [bytes((each,)) * 3 for each in range(1 << bits)], black_and_white):
            rows = grid(1, 1 if colours is black_and_white else bits)
            data = [packed(flat(row), bits) for row in rows]
            truth = looked_up(rows, [colour[::-1] for colour in colours])
            for header in (*HEADERS, *([12] if len(colours) == 1 << bits else [])):
                yield write.bmp(data, width=SIDE[0], bits=bits, header=header, colours=colours), truth
            yield write.bmp(data, width=SIDE[0], bits=bits, colours=colours, down=True), truth


def runs(row: Sequence[int], bits: int) -> bytes:
    """One row, as a run of each pixel but the last five, which are as they are."""
    tail = row[-5:]
    plain = packed(tail, bits)
    return b"".join(bytes((1, pixel * (17 if bits == 4 else 1))) for pixel in row[:-5]) + b"\0\5" + plain + b"\0"


def bmp_runs() -> Iterator[tuple[bytes, Truth | str]]:
    for bits, compression in ((8, 1), (4, 2)):
        for colours in (
            palette(1 << bits),
            [bytes((each,)) * 3 for each in range(1 << bits)],
            [b"\0\0\0", b"\xff\xff\xff"],
        ):
            rows = grid(1, bits if len(colours) > 2 else 1)
            data = b"\0\0".join(runs(flat(row), bits) for row in rows[::-1]) + b"\0\1"
            lines = [bytes(flat(row)) for row in rows]
            truth = looked_up(rows, [colour[::-1] for colour in colours])
            options = {"width": SIDE[0], "bits": bits, "compression": compression, "colours": colours, "data": data}
            yield write.bmp(lines, **options), truth


def bmp_values(bits: int) -> tuple[list[list[int]], list[bytes]]:
    values = [flat(row) for row in grid(1, bits)]
    return values, [b"".join(value.to_bytes(bits // 8, "little") for value in row) for row in values]


def unmasked(values: list[list[int]], mask: int) -> Truth:
    lowest = mask & -mask
    return np.array(values) // lowest % (mask // lowest + 1) * 255 / (mask // lowest)


def bmp_colours() -> Iterator[tuple[bytes, Truth | str]]:
    masks_of = {
        16: [(), (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)],
        24: [()],
        32: [(), (0xFF0000, 0xFF00, 0xFF), (0xFF000000, 0xFF0000, 0xFF00)],
    }
    for bits, all_masks in masks_of.items():
        values, data = bmp_values(bits)
        for masks in all_masks:
            meant = masks or ((0x7C00, 0x3E0, 0x1F) if bits == 16 else (0xFF0000, 0xFF00, 0xFF))
            truth = np.stack([unmasked(values, mask) for mask in meant], -1)
            for header in (40, 52, 56, 108, 124) if masks else (12, *HEADERS):
                options = {"width": SIDE[0], "bits": bits, "header": header, "compression": 3 if masks else 0}
                yield write.bmp(data, masks=masks, **options), truth


def bmp_alphas(*, used: bool) -> Callable:
    def examples() -> Iterator[tuple[bytes, Truth | str]]:
        values, _ = bmp_values(32)
        for masks in ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000)):
            kept = values if used else [[value & 0xFFFFFF for value in row] for row in values]
            colours = np.stack([unmasked(kept, mask) for mask in masks[:3]], -1)
            data = [b"".join(value.to_bytes(4, "little") for value in row) for row in kept]
            truth = on_white(colours, unmasked(kept, masks[3])[..., None]) if used else colours
            for header in (56, 108, 124):
                options = {"width": SIDE[0], "bits": 32, "header": header, "compression": 3}
                yield write.bmp(data, masks=masks, **options), truth

    return examples


def other_bmps() -> Iterator[tuple[bytes, Truth | str]]:
    _, data = bmp_values(32)
    yield (
        write.bmp(data, width=SIDE[0], bits=32, compression=3, masks=(0x3FF00000, 0xFFC00, 0x3FF)),
        "masks 3FF00000",
    )
    yield write.bmp(data, width=SIDE[0], bits=16, compression=3, masks=(0xF00, 0xF0, 0xF)), "masks F00"
    yield write.bmp(data, width=SIDE[0], bits=2), "2 bits per pixel"
    yield write.bmp(data, width=SIDE[0], bits=1, compression=3, header=64), "OS/2"
    yield write.bmp(data, width=SIDE[0], bits=32, compression=4), "a JPEG inside a BMP"
    yield write.bmp(data, width=SIDE[0], bits=32, compression=5), "a PNG inside a BMP"


ROWS = (
    Row(
        form="BMP",
        picture="palette of 1, 4, 8 bits; any header, OS/2 1.x and 2.x too; either way up",
        examples=bmp_palettes,
    ),
    Row(form="BMP", picture="RLE4, RLE8", examples=bmp_runs),
    Row(form="BMP", picture="16 bits (555, 565), 24, 32 bits", tolerance=2.0, examples=bmp_colours),
    Row(form="BMP", picture="32 bits with alpha", becomes="itself, on white", examples=bmp_alphas(used=True)),
    Row(
        form="BMP",
        picture="32 bits with alpha that is 0 everywhere",
        becomes="itself, opaque",
        examples=bmp_alphas(used=False),
    ),
    Row(form="BMP", picture="other masks, 2 bits, Huffman, JPEG or PNG inside", becomes=REFUSED, examples=other_bmps),
)

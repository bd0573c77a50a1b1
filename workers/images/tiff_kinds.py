"""Which of TIFF's many kinds of pictures are decoded, and what their samples mean. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from lowtide.workers.images.plan import damaged, unsupported

Tags = Mapping[int, tuple[int, ...]]


class Tag(IntEnum):
    """What says how a picture is to be read (TIFF 6.0, and its supplements)."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_LENGTHS = 279
    MAX_SAMPLE = 281
    PLANAR = 284
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_LENGTHS = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    SUBSAMPLING = 530
    REFERENCE = 532
    DNG_VERSION = 50706


NONE, JPEG, ZSTD = 1, 7, 50000
FAX = (2, 3, 4)
COMPRESSIONS = {NONE, *FAX, 5, JPEG, 8, 32773, 32946, ZSTD}
"""None, CCITT, LZW, JPEG, deflate, PackBits, deflate by its old number, Zstandard."""

COMPRESSION_NAMES = {
    6: "JPEG of the old kind",
    9: "JBIG",
    10: "JBIG",
    32809: "ThunderScan",
    34661: "JBIG",
    34676: "SGILog",
    34677: "SGILog",
    34712: "JPEG 2000",
    34713: "a raw photograph (Nikon NEF)",
    34887: "LERC",
    34892: "lossy JPEG (DNG)",
    34925: "LZMA",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
}
"""LZMA's dictionary may be as large as its writer likes."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
"""Photometric interpretations and their samples."""

PHOTOMETRIC_NAMES = {
    4: "a transparency mask",
    9: "ICCLAB",
    10: "ITULAB",
    32803: "a raw photograph (colour filter array)",
    32844: "LogL",
    32845: "LogLuv",
    34892: "a raw photograph (linear raw)",
}

FULL_RANGE = (0, 255, 128, 255, 128, 255)
"""Black and white of Y, Cb and Cr."""

UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
DEPTHS: dict[int, dict[tuple[int, ...], tuple[int, ...]]] = {
    WHITE_IS_ZERO: {(): (1, 2, 4, 8, 12, 16)},
    BLACK_IS_ZERO: {
        (): (1, 2, 4, 8, 12, 16),
        (UNSPECIFIED,): (8,),
        (ASSOCIATED,): (8,),
        (UNASSOCIATED,): (8,),
    },
    RGB: {
        (): (8, 16),
        (UNSPECIFIED,): (8, 16),
        (ASSOCIATED,): (8, 16),
        (UNASSOCIATED,): (8, 16),
        (UNSPECIFIED, UNSPECIFIED): (8,),
        (UNASSOCIATED, UNSPECIFIED): (8,),
        (ASSOCIATED, UNSPECIFIED): (8,),
    },
    PALETTE: {(): (1, 2, 4, 8), (UNSPECIFIED,): (8,), (UNASSOCIATED,): (8,)},
    CMYK: {(): (8, 16), (UNSPECIFIED,): (8,)},
    YCBCR: {(): (8,)},
    LAB: {(): (8,)},
}
"""Photometric interpretation → extra samples → bits per sample."""

ZSTD_WINDOW_BYTES = 1 << 27
"""ZSTD_WINDOWLOG_LIMIT_DEFAULT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a TIFF's pixels are stored. `white`: the sample at full scale, of more than eight bits."""

    size: tuple[int, int]
    compression: int
    bits: int
    samples: int
    planes: int
    white: int
    inverted: bool

    def row_bytes(self, width_px: int) -> int:
        """Bytes of a row of one plane."""
        return math.ceil(width_px * self.bits * self.samples // self.planes / 8)

    def decoder_bytes(self, tile: tuple[int, int]) -> int:
        """What libtiff and Pillow hold beside the picture: a strip, which may be all of it, twice."""
        if self.compression == NONE:
            return 0
        window_bytes = ZSTD_WINDOW_BYTES if self.compression == ZSTD else 0
        return window_bytes + 2 * max(
            height_px * max(4 * width_px, self.row_bytes(width_px) * self.planes)
            for width_px, height_px in (self.size, tile)
        )


def look_of(content: bytes, tags: Tags, *, little: bool) -> Look:
    """Raises ContentError for what is damaged, or not supported."""
    _check_page(content, tags)
    size = _one(tags, Tag.WIDTH, 0), _one(tags, Tag.HEIGHT, 0)
    if not all(size):
        raise damaged("its size is missing")
    photometric, bits = _photometric(tags), _bits(tags)
    extra, samples = tags.get(Tag.EXTRA_SAMPLES, ()), _one(tags, Tag.SAMPLES, 1)
    if samples > COLOURS[photometric] + len(extra):
        raise unsupported(f"a TIFF that does not say what its sample {COLOURS[photometric] + len(extra) + 1} is")
    if samples < COLOURS[photometric] + len(extra) or bits not in DEPTHS[photometric].get(extra, ()):
        raise unsupported(f"a TIFF of {_kind(photometric, bits, extra)}")
    compression = _compression(tags, bits=bits, photometric=photometric)
    _check_details(tags, photometric=photometric, bits=bits, little=little, compression=compression)
    deep = bits > 8 and samples == 1
    return Look(
        size=size,
        compression=compression,
        bits=bits,
        samples=samples,
        planes=samples if _one(tags, Tag.PLANAR, 1) == 2 else 1,
        white=_white(tags, bits, grey=samples == 1),
        inverted=deep and photometric == WHITE_IS_ZERO,
    )


def _one(tags: Tags, tag: Tag, default: int) -> int:
    values = tags.get(tag, (default,))
    if not values:
        raise damaged(f"{tag.name} has no value")
    return values[0]


def _check_page(content: bytes, tags: Tags) -> None:
    """What is first in a raw photograph is a thumbnail, or a mosaic of the sensor's colours."""
    if content[8:10] == b"CR":
        raise unsupported("a raw photograph (Canon CR2)")
    if Tag.DNG_VERSION in tags:
        raise unsupported("a raw photograph (DNG)")
    if _one(tags, Tag.NEW_SUBFILE_TYPE, 0) & 1:
        raise unsupported("a TIFF whose first picture is a thumbnail of another, as in raw photographs,")


def _photometric(tags: Tags) -> int:
    if Tag.PHOTOMETRIC not in tags:
        raise unsupported("a TIFF that does not say what its values mean (PhotometricInterpretation)")
    photometric = _one(tags, Tag.PHOTOMETRIC, 0)
    if photometric not in COLOURS:
        raise unsupported(f"a TIFF of {PHOTOMETRIC_NAMES.get(photometric, f'photometric {photometric}')}")
    return photometric


def _bits(tags: Tags) -> int:
    bits = tags.get(Tag.BITS, (1,))
    formats = tags.get(Tag.SAMPLE_FORMAT, (1,))
    if len({*bits}) != 1:
        raise unsupported(f"a TIFF whose samples have {', '.join(map(str, bits))} bits")
    if {*formats} != {1}:
        word = {2: "signed", 3: "floating-point"}.get(formats[0], "complex")
        raise unsupported(f"a TIFF of {bits[0]} {word} bits per channel", instead="8 or 16 unsigned bits")
    if bits[0] > 16:
        raise unsupported(f"a TIFF of {bits[0]} bits per channel", instead="8 or 16")
    return bits[0]


def _compression(tags: Tags, *, bits: int, photometric: int) -> int:
    compression = _one(tags, Tag.COMPRESSION, NONE)
    if compression not in COMPRESSIONS:
        raise unsupported(f"{COMPRESSION_NAMES.get(compression, f'compression {compression}')} inside a TIFF")
    if (compression in FAX and bits != 1) or (compression == JPEG and bits != 8):
        raise unsupported(f"a TIFF of {bits} bits with compression {compression}")
    if compression == NONE and photometric == YCBCR and not _plain_ycbcr(tags):
        raise unsupported("a TIFF of YCbCr that is neither compressed nor of full range and size")
    return compression


def _plain_ycbcr(tags: Tags) -> bool:
    """What Pillow can read without libtiff."""
    return tags.get(Tag.SUBSAMPLING) == (1, 1) and tags.get(Tag.REFERENCE, FULL_RANGE) == FULL_RANGE


def _check_details(tags: Tags, *, photometric: int, bits: int, little: bool, compression: int) -> None:
    if photometric == CMYK and _one(tags, Tag.INK_SET, 1) != 1:
        raise unsupported("a TIFF of inks other than CMYK")
    # Reversed bits are for single ones, uncompressed or CCITT (TIFF 6.0, section 8): of others, decoders disagree.
    if _one(tags, Tag.FILL_ORDER, 1) != 1 and (bits > 1 or photometric == PALETTE or compression not in (NONE, *FAX)):
        raise unsupported(f"a TIFF of {bits} bits in reversed order")
    if photometric == PALETTE:
        _check_colour_map(tags.get(Tag.COLOUR_MAP, ()), bits)
    if bits == 12 and not little:
        raise unsupported("a TIFF of 12 bits in big-endian order")
    planar = _one(tags, Tag.PLANAR, 1)
    if planar not in (1, 2):
        raise damaged("its planes are neither together nor apart")
    if planar == 2 and _one(tags, Tag.SAMPLES, 1) > 1 and (bits != 8 or Tag.EXTRA_SAMPLES in tags):
        raise unsupported(f"a TIFF of separate planes with alpha, or of {bits} bits,")


def _check_colour_map(colours: tuple[int, ...], bits: int) -> None:
    if len(colours) != 3 << bits:
        raise damaged(f"its palette has {len(colours)} numbers instead of {3 << bits}")
    if 0 < max(colours) < 256:
        raise unsupported("a TIFF whose palette has 8 bits instead of 16")


def _white(tags: Tags, bits: int, *, grey: bool) -> int:
    """The sample at full scale. A camera of 12 bits says so in MaxSampleValue; another number there may be no more than
    the brightest in this picture (TIFF 6.0, section 8).
    """
    full = (1 << bits) - 1
    white = _one(tags, Tag.MAX_SAMPLE, full)
    if white == full or (bits <= 8 and white & white + 1):
        return full
    if not grey or bits <= 8 or white & white + 1 or white > full or white < 255:
        raise unsupported(f"a TIFF of {bits} bits whose largest value is {white}")
    return white


def _kind(photometric: int, bits: int, extra: tuple[int, ...]) -> str:
    names = {RGB: "RGB", PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr", LAB: "CIELAB"}
    alpha = " with alpha or more" if extra else ""
    return f"{names.get(photometric, 'grey')}{alpha} in {bits} bits"

"""TIFFs of the table that are refused, other formats, and what is no picture."""

import struct
from collections.abc import Iterator

from PIL import Image

from tests.pictures import write
from tests.pictures.table import NO_IMAGE, REFUSED, Row, Truth, grid, palette, saved


def other_tiffs() -> Iterator[tuple[bytes, Truth | str]]:
    for bits in (9, 10, 11, 13, 14, 15):
        yield write.tiff(grid(1, bits), bits=bits, photometric=1), f"grey in {bits} bits"
    yield write.tiff(grid(1, 12), bits=12, photometric=1, order=">"), "12 bits"
    yield write.tiff(grid(1, 16), bits=16, photometric=1, t339=2), "16 signed bits"
    yield write.tiff(grid(1, 16), bits=16, photometric=1, t339=3), "16 floating-point bits"
    yield saved(Image.new("F", (4, 4)), "TIFF"), "32 floating-point bits"
    yield write.tiff(grid(1, 16), bits=16, photometric=1, t281=40_000), "largest value"
    yield write.tiff(grid(3, 16), bits=16, photometric=2, t281=4095), "largest value"
    yield write.tiff(grid(1, 8), bits=8, photometric=1, reverse=True), "reversed"


def tiff_alphas() -> Iterator[tuple[bytes, Truth | str]]:
    yield write.tiff(grid(2, 16), bits=16, photometric=1, t338=2), "grey with alpha"
    yield write.tiff(grid(5, 8), bits=8, photometric=5, t338=2), "CMYK with alpha"
    yield write.tiff(grid(4, 8), bits=8, photometric=2), "what its sample 4 is"
    yield write.tiff(grid(4, 8), bits=8, photometric=2, t338=2, planar=True), "separate planes"
    yield write.tiff(grid(3, 16), bits=16, photometric=2, planar=True), "separate planes"


def tiff_spaces() -> Iterator[tuple[bytes, Truth | str]]:
    words = {4: "mask", 9: "ICCLAB", 10: "ITULAB", 32845: "LogLuv", 32803: "colour filter array", 34892: "linear raw"}
    for photometric, word in words.items():
        yield write.tiff(grid(3, 8), bits=8, photometric=photometric), word
    yield write.tiff(grid(3, 16), bits=16, photometric=8), "CIELAB in 16 bits"
    yield write.tiff(grid(4, 8), bits=8, photometric=5, t332=2), "inks other than CMYK"
    dark = [value for colour in palette(256) for value in colour]
    yield write.tiff(grid(1, 8), bits=8, photometric=3, t320=dark), "palette has 8 bits"


def tiff_others_inside() -> Iterator[tuple[bytes, Truth | str]]:
    names = {
        6: "old kind",
        34925: "LZMA",
        50001: "WebP",
        50002: "JPEG XL",
        34712: "JPEG 2000",
        34887: "LERC",
        7777: "7777",
    }
    for compression, word in names.items():
        yield write.tiff(grid(3, 8), bits=8, photometric=2, compression=compression), word


def raws() -> Iterator[tuple[bytes, Truth | str]]:
    yield write.tiff(grid(3, 8), bits=8, photometric=2, t254=1), "thumbnail"
    yield write.tiff(grid(3, 8), bits=8, photometric=2, t50706=[1, 4]), "DNG"
    content = write.tiff(grid(3, 8), bits=8, photometric=2)
    yield content[:4] + struct.pack("<I", 16) + b"CR\2\0" + content[12:], "CR2"


def others() -> Iterator[tuple[bytes, Truth | str]]:
    box = b"\0\0\0\x18ftyp%s\0\0\0\0mif1%s"
    yield box % (b"heic", b"heic"), "HEIC"
    yield box % (b"mif1", b"heic"), "HEIC"
    yield box % (b"avif", b"avif"), "AVIF"
    yield box % (b"mif1", b"avif"), "AVIF"
    yield b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon CR3"
    yield b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "JPEG 2000"
    yield b"\xff\x4f\xff\x51\0", "JPEG 2000"
    yield b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"
    yield b"\xff\x0a\xfa\x1f", "JPEG XL"
    yield b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"
    yield b"8BPS\0\1", "PSD"
    yield bytes(128) + b"DICM", "DICOM"
    yield b"\0\0\1\0\1\0", "ICO"
    yield b"P6 1 1 255 abc", "PNM"


def no_pictures() -> Iterator[tuple[bytes, Truth | str]]:
    yield b"", "empty"
    yield bytes(1000), "zeros"
    yield b"RIFF\x24\0\0\0WAVEfmt ", "WAV"
    yield b"RIFF\x24\0\0\0AVI LIST", "AVI"
    yield b"BMI,age,height\n22.5,31,180\n" * 20, "text"
    yield b"GIF89 is what I wanted", "text"
    yield b"II*, III* and MM*", "text"
    yield b"%PDF-1.7\n", "PDF"
    yield b"<!DOCTYPE html><html></html>", "HTML"
    yield b'{"uri": "gs://bucket/cat.jpg"}', "JSON"
    yield b"Dear Sir or Madam", "text"
    yield b"P1 and P2 are full, please park on P3\n", "text"
    yield b"\x1f\x8b\x08\0" + bytes(20), "gzip"
    yield b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "MP4"
    yield b"\x1aE\xdf\xa3\x9fB\x86\x81", "WebM"
    base64 = b"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGMQMGAwcAAAAeAAse1vsbcAAAAASUVORK5CYII="
    yield base64, "base64"
    yield base64[:40] + b"\r\n" + base64[40:], "base64"
    yield b"data:image/png;base64," + base64, "base64"
    yield b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJ", "base64"


ROWS = (
    Row(
        form="TIFF",
        picture="other depths; signed, floating-point; another MaxSampleValue",
        becomes=REFUSED,
        examples=other_tiffs,
    ),
    Row(
        form="TIFF",
        picture="other alpha; a sample that is not named; other separate planes",
        becomes=REFUSED,
        examples=tiff_alphas,
    ),
    Row(
        form="TIFF",
        picture="ICCLAB, LogLuv, masks, other inks, a palette of 8 bits",
        becomes=REFUSED,
        examples=tiff_spaces,
    ),
    Row(
        form="TIFF",
        picture="JPEG of the old kind, LZMA, WebP, JPEG XL, JPEG 2000 inside",
        becomes=REFUSED,
        examples=tiff_others_inside,
    ),
    Row(
        form="raw", picture="DNG, CR2, NEF, …: first in them is a thumbnail or a mosaic", becomes=REFUSED, examples=raws
    ),
    Row(
        form="other",
        picture="HEIC, AVIF, JPEG 2000, JPEG XL, SVG, PSD, DICOM, ICO, PNM, …",
        becomes=REFUSED,
        examples=others,
    ),
    Row(
        form="no image",
        picture="films, sound, PDF, HTML, JSON, text, base64, gzip, zeros, nothing",
        becomes=NO_IMAGE,
        examples=no_pictures,
    ),
)

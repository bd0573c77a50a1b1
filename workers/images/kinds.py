"""What a file is, by its first bytes: a picture that is decoded, one that is not, or no picture. Pure."""

import re

from lowtide.tasks.errors import ContentError
from lowtide.tasks.wire.inline import written_in_base64
from lowtide.workers.images.plan import unsupported

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded, in Pillow's words. Its other parsers are rarely used, so rarely attacked by those who would tell us;
EPS runs Ghostscript; those of AVIF and HEIC make room for what a stream inside the file says, whatever its header says.
"""

DECODED = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)

BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""Sizes of the second header, by which versions of BMP differ. Two letters say little: tables begin with BM, too."""

PICTURES = (
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\0\0\x01\0", "a Windows icon (ICO)"),
    (b"\0\0\x02\0", "a Windows cursor (CUR)"),
    (b"icns", "an Apple icon (ICNS)"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"SIMPLE  =", "FITS"),
    (b"AT&TFORM", "DjVu"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"\x8bJNG\r\n\x1a\n", "JNG"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"FUJIFILMCCD-RAW", "a raw photograph (Fujifilm RAF)"),
    (b"IIRO", "a raw photograph (Olympus ORF)"),
    (b"IIRS", "a raw photograph (Olympus ORF)"),
    (b"MMOR", "a raw photograph (Olympus ORF)"),
    (b"IIU\0", "a raw photograph (Panasonic RW2)"),
    (b"FOVb", "a raw photograph (Sigma X3F)"),
    (b"\x0a\x05\x01\x08", "PCX"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
)
"""How pictures that are not decoded begin."""

BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"),
    "a raw photograph (Canon CR3)": (b"crx ",),
}
"""What boxes of the ISO base media file format are, by the brand in the first one; films, else."""

OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "gzip: send what is inside"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"BZh", "bzip2: send what is inside"),
    (b"\xfd7zXZ\0", "xz: send what is inside"),
    (b"\x28\xb5\x2f\xfd", "zstandard: send what is inside"),
    (b"\x1aE\xdf\xa3", "a film (Matroska or WebM)"),
    (b"OggS", "Ogg"),
    (b"ID3", "sound (MP3)"),
    (b"fLaC", "sound (FLAC)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Windows document or Thumbs.db"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
)
"""How files that people send by mistake begin."""

LOOK_BYTES = 4096
CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def kind_of(content: bytes) -> str:
    """One of FORMATS. Raises ContentError: `not_an_image`, or `unsupported_image` that names the format."""
    if kind := _decoded(content):
        return kind
    if name := _picture(content):
        raise unsupported(name)
    raise ContentError(_complaint(content), type="not_an_image")


def _complaint(content: bytes) -> str:
    if not content:
        return "the content is empty"
    held = written_in_base64(content)
    if held and (_decoded(held) or _picture(held)):
        return "the content is base64 text of an image: decode it, or send it in JSON as data"
    what, formats = _other(content), ", ".join(FORMATS)
    guess = f"; it looks like {what}" if what else ""
    return f"the content is not an image of a known format ({formats}){guess}"


def _decoded(content: bytes) -> str | None:
    """One of FORMATS, by the beginning."""
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in BMP_HEADERS:
        return "BMP"
    return next((kind for beginning, kind in DECODED if content.startswith(beginning)), None)


def _picture(content: bytes) -> str | None:
    """The name of the format of a picture that is not decoded."""
    if content[4:8] == b"ftyp":
        brands = {content[8:12], *(content[at : at + 4] for at in range(16, min(_length(content), 256), 4))}
        return next((name for name, known in BRANDS.items() if brands.intersection(known)), None)
    if content[128:132] == b"DICM":
        return "DICOM"
    if re.match(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s|P7\nWIDTH ", content):
        return "a portable pixmap (PNM)"
    if content[-18:-1] == b"TRUEVISION-XFILE.":
        return "TGA"
    if re.match(rb"(\xef\xbb\xbf)?\s*<", content) and b"<svg" in content[:LOOK_BYTES]:
        return "SVG"
    return next((name for beginning, name in PICTURES if content.startswith(beginning)), None)


def _length(content: bytes) -> int:
    return int.from_bytes(content[:4])


def _other(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return "a film (MP4 or QuickTime)"
    if content.startswith(b"RIFF"):
        return {b"WAVE": "sound (WAV)", b"AVI ": "a film (AVI)"}.get(content[8:12], "RIFF")
    for beginning, what in OTHERS:
        if content.startswith(beginning):
            return what
    if not content.strip(b"\0"):
        return "nothing but zeros"
    return _text(content)


def _text(content: bytes) -> str:
    head = content[:LOOK_BYTES]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text in UTF-16"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"(?i)<(!doctype html|html|head|body)", start):
        return "an HTML page"
    if start.startswith(b"<"):
        return "XML"
    if start.startswith((b"{", b"[")):
        return "JSON"
    return "" if CONTROLS.search(head) else "text"

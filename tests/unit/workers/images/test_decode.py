import base64
import io
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision.transforms.functional import pil_to_tensor

from lowtide.tasks.errors import ContentError
from lowtide.workers.images import FORMATS, decode_image, jpeg, pixels, turbojpeg
from lowtide.workers.images.decode import TURNS

MAX_PIXELS = 1_000_000
QUARTERS = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (40, 40, 40)]]


def quarters(mode="RGB"):
    """Four flat colours, 32 x 48: survives lossy formats, and shows which way up it is."""
    return Image.fromarray(np.kron(np.array(QUARTERS, np.uint8), np.ones((24, 16, 1), np.uint8))).convert(mode)


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decoded(content, **options):
    return decode_image(content, max_pixels=MAX_PIXELS, **options)


def refusal(content, **options):
    with pytest.raises(ContentError) as caught:
        decoded(content, **options)
    return caught.value


def assert_quarters(image, tolerance=12):
    assert image.mode == "RGB"
    for row, colours in enumerate(QUARTERS):
        for column, colour in enumerate(colours):
            at = ((2 * column + 1) * image.width // 4, (2 * row + 1) * image.height // 4)
            assert image.getpixel(at) == pytest.approx(colour, abs=tolerance)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_comes_out_as_rgb(form: str) -> None:
    assert_quarters(decoded(encoded(quarters(), form)), tolerance=60 if form == "WEBP" else 12)


@pytest.mark.parametrize(("mode", "form"), [("P", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("CMYK", "TIFF")])
def test_palettes_and_printing_inks_come_out_as_rgb(mode: str, form: str) -> None:
    assert_quarters(decoded(encoded(quarters(mode), form)))


def test_grey_is_repeated_on_three_channels() -> None:
    content = encoded(Image.new("L", (4, 4), 77))
    assert decoded(content).getpixel((0, 0)) == (77, 77, 77)
    assert decoded(content, mode="L").getpixel((0, 0)) == 77


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(form: str) -> None:
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    assert pixels(decoded(encoded(deep, form), mode="L")).flatten().tolist() == [0, 100, 255]


def test_thirty_two_bits_are_refused_with_advice() -> None:
    error = refusal(encoded(Image.new("F", (4, 4)), "TIFF"))
    assert error.type == "unsupported_image"
    assert "send 8 or 16" in str(error)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    clear = Image.new(mode, (4, 4))  # black under no opacity
    assert decoded(encoded(clear)).getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_palette_colour_is_laid_on_white() -> None:
    palette = quarters("P")
    content = encoded(palette, transparency=palette.getpixel((0, 0)))
    assert decoded(content).getpixel((0, 0)) == (255, 255, 255)
    assert decoded(content).getpixel((0, 47)) == (0, 0, 255)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        assert decoded(content).getpixel((0, 0)) == pytest.approx((255, 0, 0), abs=8)


@pytest.mark.parametrize(("orientation", "undo"), TURNS.items())
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_upright(form: str, orientation: int, undo: Image.Transpose) -> None:
    back = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    sideways = quarters().transpose(back.get(undo, undo))
    assert_quarters(decoded(encoded(sideways, form, exif=exif)), tolerance=60 if form == "WEBP" else 12)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*", b"Exif\0\0nonsense"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_broken_metadata_does_not_spoil_a_good_picture(form: str, exif: bytes) -> None:
    assert_quarters(decoded(encoded(quarters(), form, exif=exif)), tolerance=60)


def test_text_named_jpg_is_not_an_image() -> None:
    error = refusal(b"Dear Sir or Madam, please find attached\n" * 10)
    assert error.type == "not_an_image"
    assert "JPEG, PNG" in str(error)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("spell", [base64.b64encode, base64.encodebytes, base64.urlsafe_b64encode])
def test_base64_text_of_an_image_is_named(spell: Callable[[bytes], bytes], form: str) -> None:
    error = refusal(spell(encoded(quarters(), form)))
    assert error.type == "not_an_image"
    assert str(error) == "the content is base64 text of an image: decode it, or send it in JSON as data"


def test_nothing_is_not_an_image() -> None:
    assert str(refusal(b"")) == "the content is empty"


def test_formats_with_exotic_parsers_are_not_tried() -> None:
    for form in ("EPS", "PPM", "TGA", "PCX", "ICO", "JPEG2000"):
        assert refusal(encoded(quarters(), form)).type == "unsupported_image", form


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_half_a_file_is_cut_off(form: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    content = encoded(noise, form)
    error = refusal(content[: int(len(content) * share)])
    assert error.type == "truncated_image"
    assert "the image is cut off" in str(error)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width_px, height_px):
    """A PNG's beginning: what its header claims, and no pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize("content", [png_of(100, 100) + chunk(b"\xbf\x1a\xca\xa3", b""), png_of(0, 100)])
def test_a_png_that_breaks_its_own_rules_is_refused(content: bytes) -> None:
    assert refusal(content).type in ("damaged_image", "truncated_image")


@pytest.mark.parametrize(("width_px", "height_px"), [(30_000, 30_000), (10_000, 10_000), (1_001, 1_000)])
def test_a_huge_image_is_refused_before_a_pixel_is_decoded(
    width_px: int, height_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    error = refusal(png_of(width_px, height_px))
    assert error.type == "image_too_large"
    assert f"{width_px} x {height_px}" in str(error)
    assert "1,000,000" in str(error)


def tiff_of(tile_px, *, side_px=16, big=False, order="<", first=()):
    """A grey TIFF of one deflated tile, with the directory entries `first` before its own."""
    deflated = zlib.compress(bytes(tile_px[0] * tile_px[1]))
    entry = f"{order}HHQQ" if big else f"{order}HHII"
    at = 16 if big else 8
    tags = [
        (256, side_px),
        (257, side_px),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, tile_px[0]),
        (323, tile_px[1]),
    ]
    own = [(tag, 4, 1, value) for tag, value in tags]
    end = at + (16 if big else 6) + struct.calcsize(entry) * (len(first) + len(own) + 2)
    entries = [*first, *own, (324, 4, 1, end), (325, 4, 1, len(deflated))]
    mark = b"II" if order == "<" else b"MM"
    header = mark + (struct.pack(f"{order}HHHQ", 43, 8, 0, at) if big else struct.pack(f"{order}HI", 42, at))
    count = struct.pack(f"{order}Q" if big else f"{order}H", len(entries))
    last = bytes(8 if big else 4)
    return header + count + b"".join(struct.pack(entry, *each) for each in entries) + last + deflated


@pytest.mark.parametrize("layout", [{}, {"order": ">"}, {"big": True}])
def test_a_tiff_in_tiles_is_decoded(layout) -> None:
    assert decoded(tiff_of((256, 256), **layout)).size == (16, 16)


@pytest.mark.parametrize("layout", [{}, {"order": ">"}, {"big": True}, {"first": [(322, 4, 1, 16)]}])
@pytest.mark.parametrize("tile_px", [(2000, 2000), (64, 64_000)])
def test_a_tiff_whose_tiles_are_far_larger_than_the_image_is_refused_before_one_is_decoded(
    tile_px, layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    content = tiff_of(tile_px, **layout)
    error = refusal(content)
    assert error.type == "image_too_large"
    assert f"{tile_px[0]} x {tile_px[1]} pixels, for an image of 16 x 16" in str(error)


def test_tiles_that_fit_the_limit_are_refused_when_the_image_is_padded_beyond_proportion() -> None:
    with pytest.raises(ContentError, match="tiles are too large") as caught:
        decode_image(tiff_of((5000, 5000)), max_pixels=64_000_000)
    assert caught.value.type == "image_too_large"


@pytest.mark.parametrize("side", [(322, 4, 2, 16), (322, 16, 1, 16)])
def test_a_tile_whose_side_only_some_decoders_understand_is_refused(side) -> None:
    assert refusal(tiff_of((256, 256), first=[side])).type == "damaged_image"


def test_the_limit_is_ours_and_not_pillows() -> None:
    """Pillow would warn from 89 million pixels, and refuse from 179 million, whatever the setting."""
    with pytest.raises(ContentError) as caught:
        decode_image(png_of(20_000, 10_000), max_pixels=200_000_000)
    assert caught.value.type == "truncated_image"  # it tried


@pytest.mark.parametrize("form", FORMATS)
def test_damage_never_raises_anything_but_content_error(form: str) -> None:
    chance = random.Random(form)
    content = encoded(quarters(), form)
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 2, 5, 20])):
            damaged[chance.randrange(min(len(damaged), 300))] = chance.randrange(256)
        with suppress(ContentError):
            decoded(bytes(damaged))


def test_a_large_jpeg_comes_out_smaller_but_with_enough_pixels() -> None:
    photo = quarters().resize((800, 1200))
    assert decoded(encoded(photo, "JPEG"), enough_px=200).size == (200, 300)
    assert decoded(encoded(photo, "JPEG"), enough_px=500).size == (800, 1200)
    assert decoded(encoded(photo, "PNG"), enough_px=200).size == (800, 1200)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_what_torchvision_makes_of_a_picture(mode: str) -> None:
    picture = quarters(mode)
    made = pixels(picture)
    assert made.is_contiguous()
    assert torch.equal(made, pil_to_tensor(picture))


def many_scans(content: bytes, more: int) -> bytes:
    """The last scan of the first picture `more` times more."""
    end = content.index(b"\xff\xd9")
    last = content.rindex(b"\xff\xda", 0, end)
    return content[:end] + content[last:end] * more + content[end:]


@pytest.mark.parametrize(
    "options", [{"form": "JPEG"}, {"form": "MPO", "save_all": True, "append_images": [quarters()]}]
)
def test_a_jpeg_of_very_many_scans_is_refused_before_one_is_decoded(options, monkeypatch) -> None:
    content = encoded(quarters(), progressive=True, **options)
    assert jpeg.scans(content) == 10
    assert_quarters(decoded(many_scans(content, 90)))
    monkeypatch.setattr(turbojpeg, "decoded", lambda *_, **__: pytest.fail("it decodes"))
    error = refusal(many_scans(content, 91))
    assert (error.type, str(error)) == ("unsupported_image", "the image has 101 scans, and at most 100 are decoded")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\xff\xe1\x01\x92" + b"\xff\xda" * 200, b""),  # a thumbnail
        (b"", b"\0\0" + b"\xff\xda\0\2" * 200),  # a film behind the picture
    ],
)
def test_what_is_no_scan_of_the_picture_counts_for_nothing(before: bytes, after: bytes) -> None:
    content = encoded(quarters(), "JPEG")
    content = content[:2] + before + content[2:] + after
    assert jpeg.scans(content) == 1
    assert_quarters(decoded(content))


@pytest.mark.parametrize("hidden_by", [b"\xff\x02\xff\xff", b"\xff\xd3\xff\xff", b"\xff\x00\xff\xff", b"\xff"])
def test_no_data_of_a_scan_hides_those_behind_it(hidden_by: bytes) -> None:
    content = encoded(quarters(), "JPEG", progressive=True)
    end = content.index(b"\xff\xd9")
    content = content[:end] + hidden_by + content[content.rindex(b"\xff\xda") :]
    assert jpeg.scans(content) == 11


@pytest.mark.parametrize(
    "before", [b"\xff\xd9", b"\xff\xd9" * 3, b"\xff\xff\xd9", b"\xff\xdb\0\x43\0" + b"\1" * 64 + b"\xff\xd9"]
)
def test_an_end_before_the_first_scan_hides_none(before: bytes) -> None:
    content = many_scans(encoded(quarters(), "JPEG", progressive=True), 91)
    tables_first = b"\xff\xd8" + before + content
    assert jpeg.scans(tables_first) == 101
    assert refusal(tables_first).type == "unsupported_image"


def test_of_very_many_segments_of_exif_pillow_which_copies_all_for_each_sees_one() -> None:
    content = encoded(quarters(), "JPEG")
    segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(0xFFFF - 8)
    assert jpeg.plan(content[:2] + segment * 300 + content[2:]).content.count(b"Exif\0\0") == 1
    assert_quarters(decoded(content[:2] + segment * 300 + content[2:]))

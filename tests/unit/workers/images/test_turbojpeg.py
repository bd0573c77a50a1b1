"""A JPEG that libjpeg decodes only with a warning: damage is refused, what cameras write is answered."""

import io
import random
import re
from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageFile

from lowtide.tasks.errors import ContentError
from lowtide.workers.images import decode_image
from tests.pictures.table import saved

END = b"\xff\xd9"
PADDING = b"\x55" * 8
CHANCE = np.random.default_rng(0)
PHOTO = Image.fromarray(CHANCE.integers(0, 255, (12, 16, 3), np.uint8)).resize((163, 121), Image.Resampling.BICUBIC)

KINDS = {
    "baseline": ("RGB", {}),
    "progressive": ("RGB", {"progressive": True}),
    "restarts": ("RGB", {"restart_marker_blocks": 3}),
    "grey": ("L", {}),
    "inks": ("CMYK", {}),
}


def jpeg_of(kind: str, **options) -> bytes:
    mode, own = KINDS[kind]
    return saved(PHOTO.convert(mode), "JPEG", **{"quality": 90, **own, **options})


def decoded(content: bytes, **options) -> Image.Image:
    return decode_image(content, max_pixels=1_000_000, **options)


def pixels(content: bytes) -> bytes:
    return decoded(content).tobytes()


def refusal(content: bytes) -> tuple[str, str]:
    with pytest.raises(ContentError) as caught:
        decoded(content)
    return caught.value.type, str(caught.value)


def scan_of(content: bytes) -> int:
    return content.index(b"\xff\xda")


def cut(content: bytes, share: float) -> bytes:
    """So much of its data, and the end mark."""
    begin = scan_of(content)
    return content[: begin + int((len(content) - begin) * share)] + END


def padded(content: bytes, markers: bytes) -> bytes:
    """With bytes that nobody asked for before each of these markers behind the first scan's beginning."""
    begin = scan_of(content) + 2
    pattern = re.compile(rb"\xff[" + re.escape(markers) + rb"]")
    return content[:begin] + pattern.sub(lambda found: PADDING + found[0], content[begin:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_jpeg_that_was_cut_and_closed_is_damaged(kind: str, share: float) -> None:
    told = "the image is damaged: Corrupt JPEG data: premature end of data segment"
    assert refusal(cut(jpeg_of(kind), share)) == ("damaged_image", told)


@pytest.mark.parametrize("kind", KINDS)
def test_what_libjpeg_notices_of_a_bit_that_flipped_is_damage(kind: str) -> None:
    content = jpeg_of(kind, quality=75)
    chance, told = random.Random(0), set()
    for _ in range(400):
        flipped = bytearray(content)
        flipped[chance.randrange(scan_of(content) + 14, len(content) - 2)] ^= 1 << chance.randrange(8)
        try:
            decoded(bytes(flipped))
        except ContentError as error:
            told.add(str(error))
    assert any("Corrupt JPEG data" in each for each in told)


def test_restart_markers_out_of_order_are_damage() -> None:
    content = jpeg_of("restarts")
    first, third = content.index(b"\xff\xd0"), content.index(b"\xff\xd2")
    second = content.index(b"\xff\xd1")
    swapped = content[:first] + content[second:third] + content[first:second] + content[third:]
    kind, told = refusal(swapped)
    assert kind == "damaged_image"
    assert "found marker 0xd1 instead of RST0" in told


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "inks"])
def test_bytes_before_the_end_mark_are_no_damage(kind: str) -> None:
    content = jpeg_of(kind)
    assert pixels(padded(content, END[1:])) == pixels(content)


@pytest.mark.parametrize("grey", [False, True])
def test_bytes_before_restart_markers_are_no_damage(grey: bool) -> None:
    content = jpeg_of("grey" if grey else "baseline", subsampling=2, restart_marker_rows=1)
    every = padded(content, bytes(range(0xD0, 0xDA)))
    assert every.count(PADDING) > 5
    assert pixels(every) == pixels(content)


@pytest.mark.parametrize("grey", [False, True])
def test_bytes_before_restart_markers_hide_no_cut_behind_them(grey: bool) -> None:
    content = jpeg_of("grey", restart_marker_rows=1) if grey else jpeg_of("restarts")
    if grey:  # what it says of sampling means nothing with one component
        at = content.index(b"\xff\xc0") + 11
        content = content[:at] + b"\x22" + content[at + 1 :]
    every = padded(content, bytes(range(0xD0, 0xD8)))
    for share in (0.3, 0.6, 0.95):
        kind, told = refusal(cut(every, share))
        assert kind == "damaged_image"
        assert "extraneous bytes" in told


def test_bytes_between_two_scans_are_damage_for_nothing_is_told_of_the_scans_behind_them() -> None:
    content = jpeg_of("progressive")
    second = content.index(b"\xff\xda", scan_of(content) + 2)
    kind, told = refusal(content[:second] + PADDING + content[second:])
    assert kind == "damaged_image"
    assert "before marker 0xda" in told


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PADDING, b""),  # in the header
        (b"\xff\xe1\x01\x92" + jpeg_of("grey", quality=1)[:400], b""),  # a thumbnail
        (b"", bytes(1000)),
        (b"", cut(jpeg_of("baseline"), 0.5)),  # a second picture, which is not asked for
    ],
)
def test_what_stands_around_the_picture_is_no_damage(before: bytes, after: bytes) -> None:
    content = jpeg_of("baseline")
    at = content.index(b"\xff\xdb")
    assert pixels(content[:at] + before + content[at:] + after) == pixels(content)


def test_a_strange_version_of_jfif_is_answered_and_hides_no_cut() -> None:
    content = jpeg_of("baseline")
    at = content.index(b"JFIF\0") + 5
    strange = content[:at] + b"\2" + content[at + 1 :]
    assert pixels(strange) == pixels(content)
    assert refusal(cut(strange, 0.5))[0] == "damaged_image"


def test_a_strange_transform_of_adobes_is_answered() -> None:
    content = jpeg_of("inks")
    at = content.index(b"Adobe") + 11
    assert decoded(content[:at] + b"\7" + content[at + 1 :]).size == PHOTO.size


def as_pillow(content: bytes, enough_px: int | None) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        if enough_px:
            image.draft(None, (enough_px, enough_px))
        image.load()
        return image.convert("RGB")


@pytest.mark.parametrize(("kind", "subsampling"), [*product(KINDS, [0]), *product(["baseline", "progressive"], [1, 2])])
@pytest.mark.parametrize("size", [(163, 121), (16, 16), (7, 5), (1, 33)])
def test_every_pixel_is_as_pillow_makes_it_at_every_scale(
    kind: str, subsampling: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, options = KINDS[kind]
    content = saved(PHOTO.resize(size).convert(mode), "JPEG", quality=90, subsampling=subsampling, **options)
    truths = {enough_px: as_pillow(content, enough_px) for enough_px in (None, 100, 50, 25, 12, 3)}
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("Pillow decodes"))
    for enough_px, truth in truths.items():
        assert decoded(content, enough_px=enough_px).tobytes() == truth.tobytes()


def test_sampling_of_which_turbojpeg_knows_nothing_is_pillows() -> None:
    content = jpeg_of("inks", subsampling=2)  # cyan is finer than the others
    assert np.abs(np.asarray(decoded(content), int) - np.asarray(PHOTO)).mean() < 8

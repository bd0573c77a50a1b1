"""What is beside the picture in a file never costs an answer; what shows the picture is checked."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from lowtide.tasks.errors import ContentError
from lowtide.workers.images import decode_image
from tests.pictures import write
from tests.pictures.table import grid, shades
from tests.pictures.write import chunk

ROWS = grid(3, 8)
TRUTH = shades(ROWS, 8)
MEGABYTE, TWO_MEGABYTES = (zlib.compress(b"a" * count) for count in (1_000_000, 2_000_000))


def png(**around) -> bytes:
    return write.png(ROWS, bits=8, colour=2, **around)


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(decode_image(content, max_pixels=1_000_000), float)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"zTXt", b"k\0\0" + TWO_MEGABYTES),
        chunk(b"iTXt", b"k\0\1\0\0\0" + TWO_MEGABYTES),
        chunk(b"iCCP", b"k\0\0" + TWO_MEGABYTES),
        b"".join(chunk(b"zTXt", b"k\0\0" + MEGABYTE) for _ in range(70)),
        chunk(b"tEXt", b"k\0v", wrong=1),
        chunk(b"zTXt", b"k\0\1x"),
        chunk(b"iCCP", b"k\0\1x"),
        chunk(b"eXIf", b"MM\0*", wrong=1),
        *(chunk(kind, b"\0\1") for kind in (b"gAMA", b"cHRM", b"pHYs", b"sBIT", b"tIME", b"acTL", b"fcTL", b"fdAT")),
        *(
            chunk(kind, b"")
            for kind in (b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"acTL", b"fcTL", b"fdAT", b"bKGD", b"hIST")
        ),
        chunk(b"prVt", bytes(100)),
    ],
)
def test_chunks_of_a_png_that_show_nothing_may_be_anything(chunks: bytes, place: str) -> None:
    assert (decoded(png(**{place: chunks})) == TRUTH).all()


@pytest.mark.parametrize("missing", [4, 12, 30])
def test_a_png_that_is_cut_off_behind_its_pixels_is_whole(missing: int) -> None:
    assert (decoded(png(after=chunk(b"tEXt", bytes(40)))[:-missing]) == TRUTH).all()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_what_shows_the_picture_is_damage(kind: bytes) -> None:
    content = png(before=chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", bytes(6)))
    at = content.index(kind)
    end = at + 4 + int.from_bytes(content[at - 4 : at])
    with pytest.raises(ContentError, match=f"checksum of {kind.decode()} is wrong") as caught:
        decoded(content[:end] + bytes(4) + content[end + 4 :])
    assert caught.value.type == "damaged_image"


def test_pixels_have_a_checksum_of_their_own() -> None:
    whole = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(write.flat(row)) for row in ROWS)))
    assert (decoded(png().replace(whole, whole[:-4] + bytes(4))) == TRUTH).all()
    for at in [8, 9, *range(11, len(whole) - 5, 11)]:
        with pytest.raises(ContentError) as caught:
            decoded(png().replace(whole, whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :]))
        assert caught.value.type in ("damaged_image", "truncated_image")


@pytest.mark.parametrize("rows", [ROWS, [[[0, 0, 0]] * 9] * 5, [[[0, 0, 0]]]])
def test_an_interlaced_png_is_whole_or_it_is_no_picture(rows) -> None:
    content = write.png(rows, bits=8, colour=2, interlaced=True)
    assert (decoded(content) == shades(rows, 8)).all()
    at = content.index(b"IDAT") + 4
    with pytest.raises(ContentError):
        decoded(content[:at] + b"\0" + content[at + 1 :])


def jpeg(**options) -> tuple[bytes, np.ndarray]:
    file = io.BytesIO()
    Image.fromarray(TRUTH.astype(np.uint8)).resize((32, 32)).save(file, "JPEG", **options)
    return file.getvalue(), decoded(file.getvalue())


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xe0\0\4JF",
        b"\xff\xe0\0\7JFIF\0",
        b"\xff\xe1\0\4Ex",
        b"\xff\xe1\0\x0aExif\0\0MM",
        b"\xff\xe2\0\x10ICC_PROFILE\0\1\1",
        b"\xff\xe2\0\x0eICC_PROFILE\0",
        b"\xff\xe2\0\x06MPF\0",
        b"\xff\xed\0\x10Photoshop 3.0\0",
        b"\xff\xee\0\7Adobe",
        b"\xff\xee\0\4Ad",
        b"\xff\xfe\0\2",
        (b"\xff\xfe\xff\xff" + bytes(0xFFFD)) * 40,
        b"\xff\xe9\0\2",
    ],
)
def test_segments_of_a_jpeg_that_show_nothing_may_be_anything(segment: bytes) -> None:
    content, truth = jpeg()
    assert (decoded(content[:2] + segment + content[2:]) == truth).all()


@pytest.mark.parametrize("behind", [b"\0" * 1000, b"\xff\xd8\xff\xe0", b"a film"])
def test_what_is_behind_the_end_of_a_picture_is_no_part_of_it(behind: bytes) -> None:
    content, truth = jpeg()
    assert (decoded(content + behind) == truth).all()
    assert (decoded(png() + behind) == TRUTH).all()


@pytest.mark.filterwarnings("ignore:Tag data larger than file:UserWarning")
def test_tags_of_a_tiff_that_show_nothing_may_point_nowhere() -> None:
    content = write.tiff(
        ROWS, bits=8, photometric=2, compression=write.DEFLATE, compress=zlib.compress, t700=7, t34675=9
    )
    for tag in (700, 34675):
        at = content.index(tag.to_bytes(2, "little") + b"\3\0")
        content = content[: at + 2] + b"\7\0\xff\xff\0\0\xff\xff\xff\x7f" + content[at + 12 :]
    assert (decoded(content) == TRUTH).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png()[:60], r"the image is cut off: 60 bytes came, of \d+"),
        (jpeg()[0][:-2], "the image is cut off: .* its end is missing"),
        (write.bmp([bytes(4)] * 9, width=1, bits=24)[:70], "the image is cut off: 70 bytes came, of 90"),
        (write.tiff(ROWS, bits=8, photometric=2)[:-5], r"the image is cut off: 384 bytes came, of 389"),
        (b"RIFF\x64\0\0\0WEBPVP8 " + bytes(40), "the image is cut off: 56 bytes came, of 108"),
    ],
)
def test_what_is_cut_off_says_how_much_came_and_of_how_much(content: bytes, words: str) -> None:
    with pytest.raises(ContentError, match=words) as caught:
        decoded(content)
    assert caught.value.type == "truncated_image"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_download_stopped_in_a_file_of_zeros_is_cut_off(progressive: bool) -> None:
    content, _ = jpeg(progressive=progressive)
    with pytest.raises(ContentError, match="its end is missing") as caught:
        decoded(content[: -len(content) // 8] + bytes(10_000))
    assert caught.value.type == "truncated_image"


@pytest.mark.parametrize("keep", [3, 6])
def test_a_png_whose_stream_ends_in_good_order_before_its_last_row_is_cut_off(keep: int) -> None:
    rows = b"".join(b"\0" + bytes(write.flat(row)) for row in ROWS)
    whole, short = (chunk(b"IDAT", zlib.compress(data)) for data in (rows, rows[: keep * (len(rows) // len(ROWS))]))
    with pytest.raises(ContentError, match="its pixels end after") as caught:
        decoded(png().replace(whole, short))
    assert caught.value.type == "truncated_image"


def test_a_png_whose_last_row_is_black_is_whole() -> None:
    rows = [*ROWS[:-1], [[0, 0, 0]] * len(ROWS[0])]
    assert (decoded(write.png(rows, bits=8, colour=2)) == shades(rows, 8)).all()


@pytest.mark.parametrize("turn", [2, 6])
def test_a_tiff_that_libtiff_decodes_is_turned_once(turn: int) -> None:
    content = write.tiff(ROWS, bits=8, photometric=2, compression=write.DEFLATE, compress=zlib.compress, t274=turn)
    assert (decoded(content) == (TRUTH[:, ::-1] if turn == 2 else np.rot90(TRUTH, -1))).all()

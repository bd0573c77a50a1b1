import base64
import io
from pathlib import Path

from PIL import Image

from lowtide.cli.report.thumbnails import thumbnail, thumbnails
from lowtide.cli.sources.sources import INLINE_MAX_BYTES, Source
from lowtide.config import load_settings

SETTINGS = load_settings()
RED = (200, 30, 30)


def picture(path: Path, *, size: tuple[int, int] = (400, 300), format: str = "JPEG") -> Source:
    Image.new("RGB", size, RED).save(path, format)
    return Source(request_id=path.name, path=path)


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_a_picture_becomes_small_and_keeps_its_shape(tmp_path: Path) -> None:
    small = opened(thumbnail(picture(tmp_path / "a.jpg"), SETTINGS))

    assert small.size == (96, 72)
    assert max(abs(a - b) for a, b in zip(small.getpixel((40, 40)), RED, strict=True)) < 12


def test_a_tiny_picture_keeps_every_pixel(tmp_path: Path) -> None:
    dots = Image.frombytes("L", (8, 8), bytes(range(0, 256, 4)))
    dots.save(tmp_path / "digit.png")
    small = opened(thumbnail(Source(request_id="digit", path=tmp_path / "digit.png"), SETTINGS))

    assert small.convert("L").tobytes() == dots.tobytes()


def test_a_picture_is_shown_as_the_model_saw_it(tmp_path: Path) -> None:
    deep = Image.new("I;16", (64, 64), 0x8000)  # half bright; where only the upper end is kept, it is white
    deep.save(tmp_path / "deep.png")
    small = opened(thumbnail(Source(request_id="deep", path=tmp_path / "deep.png"), SETTINGS))

    assert abs(small.getpixel((5, 5))[0] - 128) < 12


def test_a_file_too_large_to_travel_has_a_thumbnail(tmp_path: Path) -> None:
    source = picture(tmp_path / "wide, 1 %.bmp", size=(2000, 1300), format="BMP")
    assert (tmp_path / "wide, 1 %.bmp").stat().st_size > INLINE_MAX_BYTES

    assert opened(thumbnail(source, SETTINGS)).size == (96, 62)


def test_what_is_no_picture_or_not_here_has_none(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    whole = picture(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:700])
    sources = [
        Source(request_id="text", path=tmp_path / "text.jpg"),
        Source(request_id="cut", path=tmp_path / "cut.jpg"),
        Source(request_id="gone", path=tmp_path / "gone.jpg"),
        Source(request_id="folder", path=tmp_path),
        Source(request_id="uri", uri="gs://bucket/a.jpg"),
        Source(request_id="file", uri=(tmp_path / "whole.jpg").as_uri()),  # the workers' file, not ours
        Source(request_id="missing", missing="no such file"),
    ]
    looked_at = []

    found = dict(thumbnails([*sources, whole], SETTINGS, made=lambda: looked_at.append(1)))

    assert list(found) == ["whole.jpg"]
    head, _, data = found["whole.jpg"].partition(",")
    assert head == "data:image/webp;base64"
    assert opened(base64.b64decode(data)).size == (96, 72)
    assert len(looked_at) == 8


def test_a_picture_beyond_the_limit_of_pixels_is_not_decoded(tmp_path: Path) -> None:
    assert thumbnail(picture(tmp_path / "a.jpg"), load_settings(image_max_pixels=1000)) is None


def test_all_of_them_stay_within_a_budget(tmp_path: Path) -> None:
    sources = [picture(tmp_path / f"{n}.jpg") for n in range(5)]
    each = len(thumbnail(sources[0], SETTINGS) or b"")
    found = thumbnails(sources, SETTINGS, budget_bytes=3 * each)

    assert [name for name, _ in found] == ["0.jpg", "1.jpg", "2.jpg"]

import errno
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import pytest

from lowtide.cli.report.gathered import Gathered
from lowtide.cli.report.page import NoPlaceForReport, check_place
from lowtide.cli.report.report import Report
from lowtide.cli.sources.sources import Source
from lowtide.config import load_settings
from tests.unit.cli.report.test_gathered import TIMINGS, answer, failure, scored

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m\u202egpj.exe\ud800"


class Parsed(HTMLParser):
    """What a browser would find: tags with their attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def written(path: Path, report: Report, *sources: Source, **settings: object) -> Parsed:
    how = {"model": "resnet101", "per_second": 12.3, "output": "results.jsonl"}
    report.write(sources, load_settings(**settings), **how)
    return Parsed(path.read_text("utf-8"))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lowtide", "classify", "my photos/", "--model=resnet101"])
    return tmp_path / "report.html"


def test_a_page_shows_answers_failures_times_and_how_it_was_made(path: Path) -> None:
    report = Report(path)
    report.gathered.add(answer("a.jpg", scored("espresso", 0.957), model_version="V2", timings_ms=TIMINGS))
    report.gathered.add(failure("b.jpg", message="the image is cut off"))
    page = written(path, report, batch_max_requests=7)

    for said in (
        "a.jpg", "espresso", "0.957", "b.jpg", "truncated_image", "the image is cut off", "V2", "half within 4 ms",
        "lowtide classify 'my photos/' --model=resnet101", "LOWTIDE_BATCH_MAX_REQUESTS=7", "results.jsonl",
    ):  # fmt: skip
        assert said in page.text, said
    assert ("div", {"class": "s", "style": "--p:95.7%"}) in page.tags
    assert [tag for tag, _ in page.tags].count("svg") == 4
    assert page.text.index("b.jpg") < page.text.index("a.jpg")


def test_what_is_foreign_is_text(path: Path) -> None:
    report = Report(path)
    report.gathered.add(answer(HOSTILE, scored(HOSTILE, 0.5), model_version=HOSTILE))
    report.gathered.add(answer("b", {HOSTILE: HOSTILE}))
    report.gathered.add(failure(HOSTILE, type=HOSTILE, message=HOSTILE))
    report.write([], load_settings(), model=HOSTILE, per_second=1.0, output=HOSTILE)
    page = Parsed(path.read_text("utf-8"))

    assert page.text.count("<script>alert(1)</script>") >= 7
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_a_page_needs_nothing_else_and_runs_no_script(path: Path) -> None:
    report = Report(path)
    report.gathered.add(answer("a.jpg", scored("espresso", 0.957), timings_ms=TIMINGS))
    page = written(path, report)

    policies = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(value and value.startswith("#") for value in links)


def test_secrets_are_not_shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = "https://host/a.jpg?X-Goog-Signature=abc123"
    monkeypatch.setattr(sys, "argv", ["lowtide", "classify", signed, "--model=m"])
    report = Report(path)
    report.gathered.add(answer("a"))
    page = written(path, report, redis_url="redis://:hunter2@localhost:6379/0", models=["m=m:M"], weights={"m": signed})

    assert "host/a.jpg" in page.text
    for secret in ("abc123", "hunter2", "LOWTIDE_REDIS_URL"):
        assert secret not in path.read_text()


def test_what_is_beyond_the_rows_is_counted_and_said(path: Path) -> None:
    report = Report(path)
    report.gathered = Gathered(answers_max=2)
    for number in range(5):
        report.gathered.add(answer(f"{number}.jpg"))
    page = written(path, report)

    assert "2 of 5; results.jsonl has the others" in page.text
    assert "4.jpg" not in page.text


def test_a_run_that_had_nothing_to_do_shows_what_was_there(path: Path) -> None:
    report = Report(path)
    report.gathered.add_earlier([answer("a.jpg", "cat")])
    report.write([], load_settings(), model="m", per_second=None, output="results.csv")
    page = Parsed(path.read_text("utf-8"))

    assert "Of earlier runs, which the plots over time leave out: 1" in page.text
    assert "images a second" not in page.text.lower()


def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    written(path, Report(path))
    written(path, Report(path))
    (tmp_path / "index.html").write_text("<h1>My page</h1>")
    (tmp_path / "empty.html").touch()
    check_place(tmp_path / "empty.html")

    with pytest.raises(NoPlaceForReport, match="index.html: that file is no report, and is left alone"):
        Report(tmp_path / "index.html")
    with pytest.raises(NoPlaceForReport, match="no file that can be replaced"):
        Report(tmp_path)
    with pytest.raises(NoPlaceForReport, match="Not a directory|File exists"):
        Report(tmp_path / "empty.html" / "report.html")
    assert list((tmp_path / "new").iterdir()) == [path]


def test_where_nothing_can_be_written_is_told_at_once(tmp_path: Path) -> None:
    loop = tmp_path / "loop.html"
    loop.symlink_to(loop)
    for path, why in (
        (Path("/proc/report.html"), "No such file or directory"),
        (tmp_path / f"{'n' * 250}.html", "File name too long"),
        (loop, "Too many levels of symbolic links"),
    ):
        with pytest.raises(NoPlaceForReport, match=why):
            Report(path)
    assert list(tmp_path.iterdir()) == [loop]


def test_a_link_is_followed_to_where_nothing_is_yet(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "new" / "page.html")
    written(path, Report(path))

    assert path.is_symlink()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_page_that_has_no_room_leaves_nothing_and_says_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report(path)
    monkeypatch.setattr("jinja2.environment.TemplateStream.dump", Mock(side_effect=OSError(errno.ENOSPC, "No space")))
    with pytest.raises(NoPlaceForReport, match="No space; with --resume"):
        report.write([], load_settings(), model="m", per_second=None, output="r.jsonl")
    assert list(path.parent.iterdir()) == []


def test_pictures_stand_beside_their_answers(path: Path, tmp_path: Path) -> None:
    from tests.unit.cli.report.test_thumbnails import picture

    source = picture(tmp_path / "a.jpg")
    report = Report(path)
    report.gathered.add(answer("a.jpg", scored("red", 1)))
    report.gathered.add(answer("gs://bucket/b.jpg", scored("red", 1)))
    page = written(path, report, source)

    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert [image.partition(",")[0] for image in images if image] == ["data:image/webp;base64"]
    assert page.text.count("no picture") == 1


def test_pictures_are_made_without_torch() -> None:
    code = "import sys, lowtide.cli.report.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

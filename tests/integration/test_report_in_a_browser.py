"""The page of `classify --report`, as Chromium shows it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from lowtide.cli.report.report import Report
from lowtide.config import load_settings
from tests.unit.cli.report.test_gathered import TIMINGS, answer, failure, scored
from tests.unit.cli.report.test_report import HOSTILE
from tests.unit.cli.report.test_thumbnails import picture

PHONE = {"width": 390, "height": 844}
FAILURES = 30


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers and more failures than are shown at once, a foreign name among each."""
    folder = tmp_path_factory.mktemp("report")
    page = Report(folder / "report.html")
    sources = [picture(folder / f"{number}.jpg") for number in range(3)]
    for source in sources:
        page.gathered.add(answer(source.request_id, scored("espresso", 0.957), scored("cup", 0.02), timings_ms=TIMINGS))
    page.gathered.add(answer(HOSTILE * 3, scored(HOSTILE, 0.5), timings_ms=TIMINGS))
    for number in range(FAILURES):
        page.gathered.add(failure(f"{number} {HOSTILE}", type=HOSTILE if number % 2 else "no_answer", message=HOSTILE))
    page.write(sources, load_settings(), model=HOSTILE, per_second=1.0, output=HOSTILE)
    return page.path


@contextmanager
def opened(browser: Browser, path: Path, **how: Any) -> Iterator[tuple[Page, list[str]]]:
    """The page, and what it said or did that a report has no reason to."""
    said: list[str] = []
    with browser.new_context(**how) as context, context.new_page() as page:
        page.on("console", lambda message: said.append(message.text))
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        yield page, said


def test_a_foreign_name_runs_nothing_and_is_read_as_it_is(browser: Browser, report: Path) -> None:
    with opened(browser, report) as (page, said):
        page.locator("summary").first.click()

        assert page.get_by_text("<script>alert(1)</script>").count() >= FAILURES
        assert page.evaluate("document.scripts.length") == 0
        assert said == []


def test_pictures_load_and_plots_are_drawn(browser: Browser, report: Path) -> None:
    with opened(browser, report) as (page, _):
        page.locator("img").first.scroll_into_view_if_needed()
        widths = page.evaluate(
            "Promise.all([...document.images].map(each => each.decode().then(() => each.naturalWidth)))"
        )
        boxes = [page.locator("svg").nth(number).bounding_box() for number in range(4)]

        assert widths == [96, 96, 96]
        assert all(box and box["width"] > 200 and box["height"] > 80 for box in boxes)


def test_all_of_it_is_there_without_javascript(browser: Browser, report: Path) -> None:
    with opened(browser, report, java_script_enabled=False) as (page, _):
        hidden = page.get_by_text("29 <script>").first
        assert not hidden.is_visible()
        for summary in page.locator("summary").all():
            summary.click()

        assert hidden.is_visible()
        assert page.locator(".rows tr").count() == FAILURES + 4
        assert page.get_by_text("0.957").count() == 3


def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, report: Path) -> None:
    with opened(browser, report, viewport=PHONE, is_mobile=True) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_it_is_light_or_dark_as_the_reader_wants(browser: Browser, report: Path, scheme: str, is_dark: bool) -> None:
    with opened(browser, report, color_scheme=scheme) as (page, _):
        paper, ink, axis = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('svg text')).fill]"
        )

        assert (brightness(paper) < brightness(ink)) == is_dark
        assert axis == ink


def brightness(color: str) -> int:
    """Of `rgb(20, 25, 31)`."""
    return sum(map(int, color.removeprefix("rgb(").removesuffix(")").split(",")))

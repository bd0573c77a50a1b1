"""A page of `classify --report` of 10,000 answers and 300 failures: its size, and the time to make and to open it.

`python -m benchmarks.report` makes reports of photographs cut from one that scikit-learn ships, a small
one beside the large one, and opens both in Chromium, in turn. Seconds to open: until the browser has loaded and laid
out the page.
"""

import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import sklearn
from PIL import Image
from playwright.sync_api import Browser

from lowtide.cli.report.report import Report
from lowtide.cli.sources.sources import Source
from lowtide.config import load_settings
from tests.services import chromium

FLOWER = Path(sklearn.__file__).parent / "datasets" / "images" / "flower.jpg"
CROPS = 300
SIZE_PX = (500, 375)
LABELS = ("espresso", "Egyptian cat", "tabby", "missile", "golden retriever")
SMALL = 10


def photographs(folder: Path) -> list[Path]:
    """CROPS different ones."""
    whole = Image.open(FLOWER).convert("RGB")
    width_px, height_px = SIZE_PX
    for number in range(CROPS):
        left, top = number % (whole.width - width_px), number % (whole.height - height_px)
        whole.crop((left, top, left + width_px, top + height_px)).save(folder / f"{number}.jpg", quality=90)
    return sorted(folder.iterdir())


def results(*, answers: int, failures: int) -> list[dict[str, Any]]:
    """As a fleet gives them, in any order."""
    dice = random.Random(1)
    made: list[dict[str, Any]] = []
    for number in range(answers):
        scores = sorted((dice.random() / 5 for _ in LABELS), reverse=True)
        outputs = [{"label": label, "score": score} for label, score in zip(LABELS, scores, strict=True)]
        timings = {"queued": dice.lognormvariate(6, 1), "decode": dice.lognormvariate(1, 0.3), "gpu": 2.0}
        made.append(
            {"request_id": f"photos/{number:06}.jpg", "status": "ok", "outputs": outputs, "timings_ms": timings}
        )
    error = {"type": "truncated_image", "message": "the image is cut off: 5,000 bytes came"}
    made += [
        {"request_id": f"photos/bad {number}.jpg", "status": "failed", "error": error} for number in range(failures)
    ]
    dice.shuffle(made)
    return made


def make(path: Path, photos: list[Path], *, answers: int, failures: int) -> float:
    """Write it; seconds that it took."""
    report = Report(path)
    found = results(answers=answers, failures=failures)
    for result in found:
        report.gathered.add(result)
    sources = [
        Source(request_id=result["request_id"], path=photo)
        for result, photo in zip(found, itertools.cycle(photos), strict=False)
    ]
    began_s = time.perf_counter()
    report.write(sources, load_settings(), model="resnet101", per_second=90.0, output="results.jsonl")
    return time.perf_counter() - began_s


def seconds_to_open(browser: Browser, path: Path) -> float:
    """In a fresh tab."""
    with browser.new_context() as context, context.new_page() as page:
        began_s = time.perf_counter()
        page.goto(path.as_uri())
        page.evaluate("document.body.offsetHeight")
        return time.perf_counter() - began_s


@click.command()
@click.option("--answers", default=10_000, show_default=True)
@click.option("--failures", default=300, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(answers: int, failures: int, rounds: int) -> None:
    """Make, open, and print a table."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        photos = Path(folder, "photos")
        photos.mkdir()
        cut = photographs(photos)
        sizes = {"small": (SMALL, 0), "large": (answers, failures)}
        paths = {name: Path(folder, f"{name}.html") for name in sizes}
        made_s = {name: make(paths[name], cut, answers=a, failures=f) for name, (a, f) in sizes.items()}
        opened_s: dict[str, list[float]] = {name: [] for name in sizes}
        for _ in range(rounds):
            for name, seconds in opened_s.items():
                seconds.append(seconds_to_open(browser, paths[name]))
        print("results   made, s   size, MB   opened, s (median of", f"{rounds})")
        for name, (a, f) in sizes.items():
            size_mb = paths[name].stat().st_size / 1e6
            print(f"{a + f:7,}   {made_s[name]:7.1f}   {size_mb:8.1f}   {statistics.median(opened_s[name]):9.2f}")


if __name__ == "__main__":
    main()

"""`make pictures`: what the README and docs/ show, of a system that really runs on this machine.

Photographs and digits, a few broken files among them, go through it. Chromium shows the report's page, Flower, and what
`lowtide status --watch` draws in a terminal. The burst has a command of its own: benchmarks.burst.
"""

import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path

import requests
from google.cloud import pubsub_v1
from PIL import Image
from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

from examples import demo
from lowtide.config import load_settings
from lowtide.local.stack import Stack
from lowtide.tasks.errors import LowtideError
from tests.fleet import LOWTIDE
from tests.services import BrowserMissing, chromium
from tests.waiting import until

PICTURES = Path(__file__).resolve().parent / "pictures"
WIDTH_PX = 1000
"""Of every picture. A README shows up to 900."""
FLOWER_WIDTH_PX = 1130
"""Of Flower's page, which is made smaller: all columns are seen but the last, the tasks' ids."""
COLOURS = 128
"""A palette makes a picture a third as large, and nobody sees it."""
PATIENCE_S = 180.0
"""For what takes seconds: a slow machine has time, and a hang ends."""

PHOTOGRAPHS, DIGITS = "photos", "digits"
WHOLE, HALF_BYTES = "china.jpg", 70_000
"""A photograph, and how much of it there is of an upload that broke off."""
UNSUPPORTED = {"phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "poster.psd": b"8BPS\0\1"}
"""How files of such kinds begin."""
BROKEN_DIGIT, BROKEN_DIGIT_BYTES = "0150.png", 100
SETTINGS = {
    "models": demo.MODELS,
    "fleet_max": 2,
    "fleet_work_s": 10.0,  # so what is published for `status` wants two workers
    "chunk_max_requests": 64,
    "chunk_work_s": 1.0,  # at the default a slow machine would have smaller chunks
}
HOST = "import socket\nsocket.gethostname = lambda: 'laptop'\n"
"""Workers are named after their machine, and a picture for everybody does not say which it was."""

PUBLISHED = 8000
DIGITS_PER_PHOTOGRAPH = 10
WORKERS_BUSY = 2
BUSY = re.compile(" busy .* digits [0-9]")
"""A worker's row, once it has measured both models."""
TERMINAL_COLUMNS, TERMINAL_ROWS = 110, 24
HOME = "\x1b[H"
"""What rich sends before each drawing."""

SCREENS = """<!doctype html>
<style>
body { display: flex; justify-content: space-between; margin: 0; }
iframe { width: 49%; height: 602px; border: 1px solid #d0d7de; border-radius: 8px; }
</style>
<iframe src="report.html"></iframe><iframe src="report.html#answers"></iframe>
"""
TERMINAL = """<!doctype html>
<style>
body {{ margin: 0; }}
main {{ border: 1px solid #d0d7de; border-radius: 8px; color: {foreground}; }}
header {{ padding: 6px 14px; border-bottom: 1px solid #d0d7de; font: 13px sans-serif; color: #59636e; }}
pre {{ margin: 12px 14px; font: 14px/1.17 "DejaVu Sans Mono", monospace; }}
</style>
<main><header>lowtide status --watch</header><pre>{code}</pre></main>
"""


def main() -> int:
    """Start the system, let it work, take the pictures; the exit code."""
    demo.forget_fleets()
    with chromium() as browser, tempfile.TemporaryDirectory(prefix="lowtide-") as temporary:
        folder = Path(temporary)
        (folder / "sitecustomize.py").write_text(HOST)
        demo.import_from(folder)
        demo.import_from(demo.EXAMPLES / "photographs")
        here = files_in(folder / "here")
        settings = load_settings(**SETTINGS, file_roots=(str(here),))
        with Stack(settings, folder=folder / "system", workers=None, flower=True, alone=True) as stack:
            stack.wait_ready()
            picture_flower(browser, stack, here)
            picture_report(browser, stack, here)
            picture_status(browser, stack, here)
    return 0


def files_in(folder: Path) -> Path:
    """The folder, with the demo's photographs and digits in it, and with files that are broken."""
    shutil.copytree(demo.EXAMPLES / "digits" / "images", folder / DIGITS)
    photographs = folder / PHOTOGRAPHS
    photographs.mkdir()
    for photograph in demo.photographs():
        shutil.copy(photograph, photographs)
    (photographs / "half.jpg").write_bytes((photographs / WHOLE).read_bytes()[:HALF_BYTES])
    for name, beginning in UNSUPPORTED.items():
        (photographs / name).write_bytes(beginning)
    digit = folder / DIGITS / BROKEN_DIGIT
    digit.write_bytes(digit.read_bytes()[:BROKEN_DIGIT_BYTES])
    return folder


def picture_flower(browser: Browser, stack: Stack, here: Path) -> None:
    """Flower's list of tasks, after chunks of digits of which one holds a broken file."""
    url = f"{stack.settings.flower_url}/tasks"
    until(lambda: is_there(url), within_s=PATIENCE_S, what="Flower's start")
    classify(stack, here, DIGITS, model="digits")
    shape = {"width": FLOWER_WIDTH_PX, "height": 800}
    with browser.new_page(viewport=shape, device_scale_factor=WIDTH_PX / FLOWER_WIDTH_PX) as page:
        until(lambda: shows_all_ended(page, url), within_s=PATIENCE_S, what="the end of all tasks in Flower")
        card = page.locator(".tasks-table-card").bounding_box()
        assert card
        below_px = card["y"] + card["height"] + 20
        save(page.screenshot(clip={"x": 0, "y": 0, "width": FLOWER_WIDTH_PX, "height": below_px}), "flower")


def shows_all_ended(page: Page, url: str) -> bool:
    """Whether Flower has heard of all of them, the one with a failure included."""
    page.goto(url, wait_until="networkidle")
    cells = page.locator("td")
    failed, unfinished = cells.filter(has_text="1 failed"), cells.filter(has_text=re.compile("^(RECEIVED|STARTED)$"))
    return failed.count() > 0 and unfinished.count() == 0


def picture_report(browser: Browser, stack: Stack, here: Path) -> None:
    """The page's beginning, with what failed, and beside it its answers."""
    classify(stack, here, PHOTOGRAPHS, model="efficientnet_lite0")
    screens = here / "screens.html"
    screens.write_text(SCREENS)
    with browser.new_page(viewport={"width": WIDTH_PX, "height": 604}) as page:
        page.goto(screens.as_uri(), wait_until="networkidle")
        save(page.screenshot(), "report")


def picture_status(browser: Browser, stack: Stack, here: Path) -> None:
    """The terminal, while two workers are busy."""
    publish(stack, here)
    busy = (frame for frame in frames(environment_of(stack), here) if len(BUSY.findall(frame)) == WORKERS_BUSY)
    drawn = next(busy, None)
    if drawn is None:
        raise LowtideError(f"{WORKERS_BUSY} workers were not busy at once within {PATIENCE_S:.0f} s")
    console = Console(width=TERMINAL_COLUMNS, record=True, file=io.StringIO())
    console.print(Text.from_ansi(drawn.replace("\r\n", "\n").rstrip()))
    with browser.new_page(viewport={"width": WIDTH_PX, "height": 800}) as page:
        page.set_content(console.export_html(theme=DEFAULT_TERMINAL_THEME, code_format=TERMINAL, inline_styles=True))
        save(page.locator("main").screenshot(), "status")


def classify(stack: Stack, here: Path, folder: str, *, model: str) -> None:
    """Run `lowtide classify`. Some files of each folder are broken, so its exit code is 1."""
    command = [*LOWTIDE, "classify", folder, f"--model={model}", "--overwrite", "--report=report.html"]
    code = subprocess.run(command, cwd=here, env=environment_of(stack)).returncode
    if code != 1:
        raise LowtideError(f"lowtide classify ended with {code}")


def publish(stack: Stack, here: Path) -> None:
    """Many more requests than the workers get through while somebody looks."""
    os.environ["PUBSUB_EMULATOR_HOST"] = stack.pubsub_host
    publisher = pubsub_v1.PublisherClient()
    topic = publisher.topic_path(str(stack.settings.project), stack.settings.topic)
    published = [publisher.publish(topic, request) for request in islice(requests_of(here), PUBLISHED)]
    for each in published:
        each.result(PATIENCE_S)
    publisher.stop()


def requests_of(here: Path) -> Iterator[bytes]:
    """Of photographs and digits by turns, without an end."""
    photographs = cycle(here / PHOTOGRAPHS / photograph.name for photograph in demo.photographs())
    digits = cycle(sorted((here / DIGITS).iterdir()))
    for photograph in photographs:
        yield json.dumps({"model": "efficientnet_lite0", "uri": photograph.as_uri()}).encode()
        for digit in islice(digits, DIGITS_PER_PHOTOGRAPH):
            yield json.dumps({"model": "digits", "uri": digit.as_uri()}).encode()


def frames(env: Mapping[str, str], here: Path) -> Iterator[str]:
    """What `lowtide status --watch` draws in a terminal, one screen after the other."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", TERMINAL_ROWS, TERMINAL_COLUMNS, 0, 0))
    process = subprocess.Popen(
        [*LOWTIDE, "status", "--watch", "--every=1s"],
        cwd=here,
        env={**env, "TERM": "xterm-256color"},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    ends_s = time.monotonic() + PATIENCE_S
    drawn = b""
    try:
        while time.monotonic() < ends_s:
            *whole, drawn = (drawn + os.read(ours, 1 << 16)).split(HOME.encode())
            yield from (frame.decode() for frame in whole)
    finally:
        process.terminate()
        os.close(ours)  # before the wait: it may stand in the middle of writing what nobody reads any more
        process.wait()


def environment_of(stack: Stack) -> dict[str, str]:
    """Of a process that joins it."""
    return {**os.environ, **stack.environment}


def is_there(url: str) -> bool:
    """Whether a page is."""
    try:
        return requests.get(url, timeout=PATIENCE_S).ok
    except requests.ConnectionError:
        return False


def save(png: bytes, name: str) -> None:
    """As a PNG with a palette."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BrowserMissing, LowtideError) as error:
        sys.exit(f"pictures: {error}")

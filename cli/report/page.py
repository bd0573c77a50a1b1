"""The page itself: `page.html`, filled in. Whatever comes from outside is text there: it is escaped, and the page runs
no script.
"""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment

from lowtide.cli.report import plots
from lowtide.cli.report.gathered import Gathered, Row
from lowtide.cli.terminal import shown
from lowtide.tasks.errors import LowtideError

MARK = '<meta name="generator" content="lowtide classify">'
MARK_WITHIN_BYTES = 1000
ROWS_AT_ONCE = 100
"""A browser lays out such a group when it is scrolled to."""
OPEN_ROWS = 20
"""Up to so many failures are shown at once; of more, what is behind a click is what somebody wants to see."""

TITLES = {
    "queued": ("Waiting", "from publication on, until a worker had it"),
    "decode": ("Decoding", "from bytes to what the model takes"),
    "gpu": ("Device", "an image's share of its batch's time"),
}


class NoPlaceForReport(LowtideError):
    """Raised when a report can't be written where it should. The message names the file and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What stands beside the results. `settings`: what was set, names and values."""

    model: str
    command: str
    settings: Mapping[str, str]
    when: str
    version: str
    per_second: str
    output: str


def check_place(path: Path) -> None:
    """Raises NoPlaceForReport: nothing can be written there, or a file there is no report and may be someone's work."""
    try:
        _check_former(path)
        part = _part_of(path)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as error:
        raise NoPlaceForReport(f"--report {path}: {error.strerror}") from error


def _check_former(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise NoPlaceForReport(f"--report {path}: is no file that can be replaced")
    with path.open("rb") as file:
        beginning = file.read(MARK_WITHIN_BYTES)
    if beginning and MARK.encode() not in beginning:
        raise NoPlaceForReport(f"--report {path}: that file is no report, and is left alone: name another")


def _part_of(path: Path) -> Path:
    """Where the page is until it is whole: beside the file to which a link leads."""
    real = path.resolve()
    return real.with_name(f".{real.name}.part")


def write(path: Path, gathered: Gathered, facts: Facts, thumbnails: Mapping[str, str]) -> None:
    """Write the page, in one step: whoever looks meanwhile finds the former one. Raises NoPlaceForReport."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = shown
    environment.filters["groups"] = _groups
    environment.filters["percent"] = lambda score: f"{100 * score:.1f}%"
    template = environment.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    page = template.stream(
        mark=MARK,
        open_rows=OPEN_ROWS,
        gathered=gathered,
        facts=facts,
        thumbnails=thumbnails,
        plots=_plots(gathered),
    )
    page.enable_buffering(ROWS_AT_ONCE)
    part = _part_of(path)
    try:
        page.dump(str(part), encoding="utf-8", errors="replace")
        part.replace(path.resolve())
    except OSError as error:
        why = f"--report {path}: {error.strerror}; with --resume a page is made of the results that are there"
        raise NoPlaceForReport(why) from error
    finally:
        part.unlink(missing_ok=True)


def _plots(gathered: Gathered) -> list[tuple[str, str, str]]:
    """Title, what it shows, and the SVG."""
    drawn = []
    if gathered.arrived_s:
        drawn.append(("Images a second", "answers and failures, over time", plots.rate(gathered.arrived_s)))
    for name, (title, meaning) in TITLES.items():
        if values := gathered.timings_ms[name]:
            drawn.append((title, f"{meaning}; {plots.summary(values)}", plots.times(values)))
    return drawn


def _groups(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]

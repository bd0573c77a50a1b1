"""How far it is: a bar on a terminal, plain lines in a pipe. Both on standard error."""

import sys
import time
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lowtide.cli.terminal import shown

LINE_EVERY_S = 5.0


def rounded(rate: float) -> str:
    """A rate as a person reads it: a slow one is not nothing."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


class ProgressBar:
    """Counts results as they come. Use as a context manager."""

    def __init__(self, label: str, total: int | None) -> None:
        """`total`: None when nobody knows."""
        self._label = label
        self.total = total
        self.done = 0
        self.failed = 0
        self._started_s = self._last_s = time.monotonic()
        self._line_due_s = self._started_s + LINE_EVERY_S
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            # Standard output is for results; and click writes past what rich would put in a stream's place.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(label, total=total, said="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._bar.disable and self.total != 0:
            self._line()

    def begin(self) -> None:
        """Rates count from now on: whatever had to start before has started."""
        self._started_s = self._last_s = time.monotonic()
        self._bar.reset(self._task, total=self.total)

    def advance(self, *, failed: bool) -> None:
        """One more result."""
        self.done += 1
        self.failed += failed
        self._last_s = time.monotonic()
        self._bar.update(self._task, advance=1, said=self._said)
        if self._bar.disable and self._last_s >= self._line_due_s:
            self._line_due_s = self._last_s + LINE_EVERY_S
            self._line()

    def note(self, message: str) -> None:
        """A line that stays, above the bar."""
        self._bar.console.print(Text(shown(message)), soft_wrap=True)

    @property
    def per_second(self) -> float:
        """Results a second, from the start to the last one."""
        return self.done / max(1e-9, self._last_s - self._started_s)

    @property
    def _said(self) -> str:
        return f"{rounded(self.per_second)}/s" + (f", {self.failed} failed" if self.failed else "")

    def _line(self) -> None:
        total = "" if self.total is None else f" of {self.total}"
        click.echo(f"{self._label}: {self.done}{total}, {self._said}", err=True)

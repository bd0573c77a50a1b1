"""How far it is: a bar on a terminal, plain lines in a pipe. Both on standard error."""

import sys
import time
from types import TracebackType
from typing import Any

import click

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
        self._started_s = time.monotonic()
        self._line_due_s = self._started_s + LINE_EVERY_S
        self._bar: Any = None
        self._last_s = self._started_s
        self.done = 0
        self.failed = 0

    def __enter__(self) -> "ProgressBar":
        if sys.stderr.isatty():
            self._bar = click.progressbar(
                iterable=None if self.total is not None else iter(int, 1),  # of unknown length
                length=self.total,
                label=self._label,
                show_pos=True,
                file=sys.stderr,
                item_show_func=self._shown,
            ).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.__exit__(kind, error, trace)
        elif self.total != 0:
            self._line()

    def begin(self) -> None:
        """Rates count from now on: whatever had to start before has started."""
        self._started_s = self._last_s = time.monotonic()

    def advance(self, *, failed: bool) -> None:
        """One more result."""
        self.done += 1
        self.failed += failed
        self._last_s = time.monotonic()
        if self._bar:
            self._bar.update(1, self)
        elif time.monotonic() >= self._line_due_s:
            self._line_due_s = time.monotonic() + LINE_EVERY_S
            self._line()

    def note(self, message: str) -> None:
        """A line that stays, beside the bar."""
        said = shown(message)
        click.echo(f"\n{said}" if self._bar else said, err=True)

    @property
    def per_second(self) -> float:
        """Results a second, from the start to the last one."""
        return self.done / max(1e-9, self._last_s - self._started_s)

    def _shown(self, _: object) -> str:
        return f"{rounded(self.per_second)}/s" + (f", {self.failed} failed" if self.failed else "")

    def _line(self) -> None:
        total = "" if self.total is None else f" of {self.total}"
        click.echo(f"{self._label}: {self.done}{total}, {self._shown(None)}", err=True)

"""Rounds of one row until it was tried often enough."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import click

from tests.drills.judge import complaints
from tests.drills.rows import ROWS, Broken, Row
from tests.drills.run import drill_on
from tests.drills.stage import PATIENCE_S
from tests.drills.tally import Book, Round, machine
from tests.drills.verdict import Verdict

BROKEN_PATIENCE_S = 60.0
"""What is lost without a protecting piece stays so; with all of them, nothing takes so long in these rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The rounds of one row on one commit, or of one row without one piece."""

    name: str
    broken: Broken | None
    commit: str
    tries: int | None

    @property
    def row(self) -> Row:
        return self.broken.of(ROWS[self.name]) if self.broken else ROWS[self.name]

    @property
    def patch(self) -> str:
        return self.broken.patch if self.broken else ""

    def done(self, book: Book) -> list[Round]:
        return [r for r in book.rounds(self.commit) if (r.row, r.broken) == (self.name, self.patch)]

    def run(self, book: Book, folder: Path) -> None:
        """Rounds up to the number of tries, each of them written into the book; without a piece, up to the first that
        tells: a random moment may be a harmless one.
        """
        row, done = self.row, self.done(book)
        left = (self.tries or row.at_least) - sum(r.verdict.tries for r in done)
        if left <= 0 or self._told(book):
            return
        patience_s = BROKEN_PATIENCE_S if self.broken else PATIENCE_S
        with drill_on(folder / f"{self.name} {self.patch}".strip(), row, patience_s=patience_s) as drill:
            for seed in itertools.count(max((r.seed for r in done), default=-1) + 1):
                faults = min(left, row.per_round)
                verdict = drill.round(self.name, row, seed=seed, faults=faults)
                click.echo(f"{self.name} {self.patch} {seed}: {verdict}")
                book.add(self._round(seed, verdict))
                left -= faults
                if left <= 0 or self._told(book):
                    return

    def kept(self, book: Book) -> bool:
        """True when no promise was broken; without a piece, when one was."""
        found = self._complaints(book)
        for complaint in found:
            click.echo(f"{self.name} {self.patch}: {complaint}")
        return bool(found) if self.broken else not found

    def _told(self, book: Book) -> bool:
        """A piece is switched off, and a round has reported it."""
        return bool(self.broken and self._complaints(book))

    def _complaints(self, book: Book) -> list[str]:
        return complaints(self.row, [r.verdict for r in self.done(book)])

    def _round(self, seed: int, verdict: Verdict) -> Round:
        return Round(
            commit=self.commit, row=self.name, broken=self.patch, seed=seed, machine=machine(), verdict=verdict
        )

"""`python -m tests.drills`: the fault matrix, or some of its rows. `make drill` calls it."""

import logging
import sys
import tempfile
from pathlib import Path

import click

from tests.drills.judge import complaints
from tests.drills.report import write
from tests.drills.rows import ROWS
from tests.drills.run import drill_on
from tests.drills.tally import Book, Round, commit, machine


@click.command()
@click.argument("names", nargs=-1)
@click.option("--broken", is_flag=True, help="Switch the protecting piece off: the drill must report it.")
@click.option("--tries", type=int, help="How often each fault is tried in all. Default: what the matrix asks for.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the logs of the processes.")
def main(names: tuple[str, ...], *, broken: bool, tries: int | None, keep: Path | None) -> None:
    """Try faults on real processes, count what becomes of every request, and write docs/reliability.md.

    Goes on where an interrupted run of the same commit stopped.
    """
    logging.basicConfig(level=logging.ERROR)
    if unknown := set(names) - set(ROWS):
        raise click.UsageError(f"no row {', '.join(sorted(unknown))}; rows are {', '.join(ROWS)}")
    wanted = names or [name for name in ROWS if not broken or ROWS[name].broken]
    book, now = Book(), commit()
    bad = False
    for name in wanted:
        bad |= _run(book, name, commit=now, broken=broken, tries=tries, keep=keep)
        write(book.rounds(now), commit=now)
    sys.exit(1 if bad else 0)


def _run(book: Book, name: str, *, commit: str, broken: bool, tries: int | None, keep: Path | None) -> bool:
    """A row up to its number of tries; True when it shows what it must not, or when broken, doesn't what it must."""
    row = ROWS[name]
    done = [r for r in book.rounds(commit) if r.row == name and r.broken == broken]
    left = (tries or (row.per_round if broken else row.at_least)) - sum(r.verdict.tries for r in done)
    if left > 0:
        with tempfile.TemporaryDirectory(prefix="lowtide-drill-") as scratch:
            folder = (keep or Path(scratch)) / (f"{name}-broken" if broken else name)
            with drill_on(folder, row, broken=broken) as drill:
                seed = max((r.seed for r in done), default=-1) + 1
                while left > 0:
                    faults = min(left, row.per_round)
                    verdict = drill.round(name, row, seed=seed, faults=faults)
                    round_ = Round(
                        commit=commit, row=name, broken=broken, seed=seed, machine=machine(), verdict=verdict
                    )
                    book.add(round_)
                    done.append(round_)
                    click.echo(f"{name}{' BROKEN' if broken else ''} {seed}: {verdict}")
                    left, seed = left - faults, seed + 1
    found = complaints(row, [r.verdict for r in done])
    for complaint in found:
        click.echo(f"{name}: {complaint}")
    return not found if broken else bool(found)


if __name__ == "__main__":
    main()

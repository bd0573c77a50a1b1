"""`python -m tests.drills`: the fault matrix, or some of its rows. `make drill` calls it."""

import logging
import sys
import tempfile
from pathlib import Path

import click

from tests.drills.report import write
from tests.drills.rows import ROWS
from tests.drills.series import Series
from tests.drills.tally import Book, commit


@click.command()
@click.argument("names", nargs=-1)
@click.option("--broken", is_flag=True, help="Switch the protecting piece off: tries until that is reported.")
@click.option("--tries", type=int, help="How often each fault is tried at most. Default: what the matrix asks for.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the logs of the processes.")
def main(names: tuple[str, ...], *, broken: bool, tries: int | None, keep: Path | None) -> None:
    """Try faults on real processes, count what becomes of every request, and write docs/reliability.md.

    Goes on where an interrupted run of the same commit stopped.
    """
    logging.basicConfig(level=logging.ERROR)
    if unknown := set(names) - set(ROWS):
        raise click.UsageError(f"no row {', '.join(sorted(unknown))}; rows are {', '.join(ROWS)}")
    book, now = Book(), commit()
    kept = []
    for name in names or [name for name, row in ROWS.items() if not row.by_name]:
        for piece in ROWS[name].broken if broken else (None,):
            series = Series(name=name, broken=piece, commit=now, tries=tries)
            with tempfile.TemporaryDirectory(prefix="lowtide-drill-") as scratch:
                series.run(book, keep or Path(scratch))
            kept.append(series.kept(book))
            write(book.rounds(now), commit=now)
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()

"""What a fleet costs Redis, and how soon it answers, beside what it may: one table, in Markdown.

`python -m benchmarks.scale` runs what can be run alone, too, one after the other and each in a process of
its own: connections.py, waking.py, liveness.py, content.py. In each Redis keeps its data in an append-only file.
`--before`, the folder of another checkout that has its `.venv`, adds bench.py, by its code and by ours. On two cores it
takes a quarter of an hour, and as long again with that.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import click

from benchmarks import connections, content, liveness, waking

CHECKOUT = Path(__file__).resolve().parents[1]
Rows = Iterator[tuple[str, str]]

AT_MOST = {
    "connections, idle": "worker 5",
    "connections, 10,000 infer.delay": "worker 16",
    "idle worker, models: 1": "5 a second",
    "idle worker, models: 10": "8 a second",
    "150 kB messages, workers: 2": "sent 1.3, got 1.1",
    "150 kB messages, workers: 8": "sent 1.3, got 1.1",
    "150 kB messages, workers: 32": "sent 1.3, got 1.1",
    "1,000 workers, sweeper, two bridges": "15 ms/s",
    "300 of them lost, and the sweeper": "45 s; busy for 50 ms",
    "lone infer.delay": "5 ms (p50)",
    "lone send_task": "20 ms (p50)",
    "image, raw": "bridge 0.5 ms, Redis 0.2 ms",
    "image, in JSON": "bridge 0.5 ms, Redis 0.2 ms",
}


def bench(before: Path) -> Rows:
    """Ratios of `make bench`: what it was, and what it is, again and again in turns; the better of two."""
    found: dict[str, dict[Path, float]] = {}
    for folder in (before, CHECKOUT) * 2:
        for what, ratio in ratios(folder).items():
            of_both = found.setdefault(what, {})
            of_both[folder] = max(ratio, of_both.get(folder, 0.0))
    for what, of_both in found.items():
        yield f"bench: {what}", f"before {of_both[before]:.2f}, now {of_both[CHECKOUT]:.2f}"


def ratios(folder: Path) -> Mapping[str, float]:
    """Of a checkout's code."""
    command = [str(folder / ".venv/bin/python"), "-m", "benchmarks.bench", "--json"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout
    return {what: figures["ratio"] for what, figures in json.loads(found).items()}


def show(part: Callable[[], Rows]) -> None:
    """A row for each figure, as soon as it is measured."""
    for what, measured in part():
        print(f"| {what} | {AT_MOST.get(what, '')} | {measured} |", flush=True)


@click.command()
@click.option(
    "--before", type=click.Path(path_type=Path, exists=True), help="Another checkout, to compare bench.py with."
)
def main(before: Path | None) -> None:
    """Print the table. Exit code 1 if a part failed, whose other figures are missing then."""
    print(f"{time.strftime('%B %Y')}, {os.cpu_count()} cores, {platform.system()} {platform.release()},", end=" ")
    print(f"Python {platform.python_version()}, load {os.getloadavg()[1]:.1f} when it began.\n")
    print("| figure | at most | measured |\n|---|---|---|", flush=True)
    parts: list[Callable[[], Rows]] = [connections.rows, waking.rows, liveness.rows, content.rows]
    if before:
        parts.append(partial(bench, before.resolve()))
    failed = False
    for part in parts:
        # Each leaves settings in the environment, and an app that is configured.
        process = get_context("spawn").Process(target=show, args=(part,))
        process.start()
        process.join()
        failed |= process.exitcode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""`lowtide classify`."""

import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from lowtide.cli import STOPPED, options
from lowtide.cli.answers.answers import Result, error_of, failure_of
from lowtide.cli.answers.collect import Collection
from lowtide.cli.answers.output import STDOUT, Output, is_stdout, is_stream, open_output
from lowtide.cli.answers.progress import ProgressBar, rounded
from lowtide.cli.options import TEXT, WAIT, examples, parse_params
from lowtide.cli.sources.sources import Source, given_sources
from lowtide.cli.terminal import shown
from lowtide.config import Settings, SettingsError, load_settings
from lowtide.config.process.logs import configure_logging
from lowtide.config.text import is_utf8
from lowtide.local.stack import Stack
from lowtide.workers.models.names import check_case

if TYPE_CHECKING:
    from lowtide.cli.report.report import Report

TOLD_CHARS = 200
TOLD = 3
"""So many types of failures are told of, each by one example; the output has them all."""
NO_FAILURE = "none"
"""What --retry takes for none at all."""


@click.command(
    epilog=examples(
        "lowtide classify photos/ --model resnet101",
        "lowtide classify gs://bucket/cat.jpg --model mobilenet_v2 --weights random --output cats.csv",
        "lowtide classify photos/ --model resnet101 --report report.html",
        "find photos -name '*.jpg' | lowtide classify --from-file - --model resnet101 --resume",
    )
)
@click.argument("paths", nargs=-1)
@click.option("--model", required=True, type=TEXT, help="Model to run, for example digits or resnet101.")
@click.option(
    "--output",
    default="results.jsonl",
    show_default=True,
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="File of results: .jsonl holds them whole, .csv holds filename,prediction,status,error; - is standard output.",
)
@click.option("--resume", is_flag=True, help="Go on with an output file: run what has no answer there.")
@click.option(
    "--retry",
    "retried",
    multiple=True,
    metavar="TYPE",
    help="With --resume, of the failures run only those of this error type again, such as no_answer; none: no failure. "
    "May be repeated. Default: all of them.",
)
@click.option("--overwrite", is_flag=True, help="Replace an output file.")
@options.from_file
@click.option(
    "--weights", type=TEXT, help="Weights of the model on the embedded system: a URI, a torchvision name, or random."
)
@options.params
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Embedded workers.")
@click.option(
    "--timeout",
    type=WAIT,
    default="30m",
    show_default=True,
    help="Give up after so long without any answer: what is left fails with no_answer.",
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page to look at, such as report.html: pictures, answers, what failed and why, and times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    *,
    paths: Sequence[str],
    model: str,
    output: Path,
    resume: bool,
    retried: Sequence[str],
    overwrite: bool,
    from_file: BinaryIO | None,
    weights: str | None,
    params: Sequence[str],
    workers: int,
    timeout: float,
    report_path: Path | None,
    as_json: bool,
) -> None:
    r"""Run every file, folder and gs:// or https:// URI of PATHS through a model, and collect every result.

    Runs on a system of its own on this machine, unless LOWTIDE_PROJECT names the project of one that is there. Its own
    one shares nothing with others: LOWTIDE_REDIS_URL and PUBSUB_EMULATOR_HOST are not used then.

    Each of them gets a row. One that can't be read, sent or answered fails alone, and its row says why: no_source (not
    there, not readable, too large), refused (by Pub/Sub), no_answer, or the type that the fleet gives. A name that is
    not UTF-8 is written with \xe9 for such a byte.

    --resume finishes a file of results: what ended ok is final and is not run again; every failure is, since files are
    repaired, models started and networks mended, unless --retry chooses. A new row replaces the earlier one. Sources
    are told by their names as given, so go on in the folder where you began, with the same parameters.

    --report makes one HTML file that needs nothing else, also of what the output holds already; an earlier report is
    replaced. It shows up to 10,000 answers and 2,000 failures, and counts all.

    Exit code 1 if the output holds any failure, also one of an earlier run; 130 after Ctrl-C.
    """
    if retried and not resume:
        raise click.UsageError("--retry chooses what --resume runs again")
    if resume and overwrite:
        raise click.UsageError("--resume goes on with an output, --overwrite begins it anew: choose one")
    output = STDOUT if is_stdout(output) else output
    values = parse_params(params)
    settings = load_settings()
    configure_logging(settings, default="WARNING")
    _check_system(settings, weights, workers)
    report = _report(report_path, output)
    sources = given_sources(paths, from_file, outputs=[output, *([report_path] if report_path else [])])
    if not settings.project:
        # Else a whole system would start to say it.
        check_case(model, served=settings.model_names)
    with open_output(output, model=model, resume=resume, overwrite=overwrite) as file:
        _tell_of_unmatched(retried, file.outcomes)
        todo = [source for source in sources if _is_left(source, file.outcomes, retried)]
        if report:
            report.gathered.add_earlier(file.held(), again={source.request_id for source in todo})
        with ProgressBar("classify", len(todo)) as progress, _stopping(progress, file):
            if todo:
                with _system(settings, model, weights, todo, workers, say=progress.note) as ready:
                    collection = Collection(
                        ready,
                        model=model,
                        params=values,
                        local_files=ready is not settings,
                        timeout_s=timeout,
                        say=progress.note,
                    )
                    _collect(collection, todo, file, progress, report)
        if report:
            rate = progress.per_second if todo else None
            with _stopping(progress, file):
                report.write(sources, settings, model=model, per_second=rate, output=str(output))
    failed = sum(failure is not None for failure in file.outcomes.values())
    _summarize(
        progress, failed=failed, skipped=len(sources) - len(todo), output=output, report=report_path, as_json=as_json
    )
    sys.exit(failed > 0)


def _report(path: Path | None, output: Path) -> "Report | None":
    if path is None:
        return None
    if path == STDOUT:
        raise click.UsageError("--report is a page in a file: name one, such as report.html")
    if os.path.realpath(path) == os.path.realpath(output):
        raise click.UsageError("--report and --output name the same file: results are one thing, the page another")
    from lowtide.cli.report.report import Report  # here, since it takes what others need not install

    return Report(path)


def _check_system(settings: Settings, weights: str | None, workers: int) -> None:
    if not settings.subscription:
        raise SettingsError("LOWTIDE_SUBSCRIPTION is empty, and what is to be classified goes by topic: leave it unset")
    if settings.project and (weights or workers > 1):
        raise click.UsageError(
            "--weights and --workers are for a system of its own, and LOWTIDE_PROJECT names one that is there: leave "
            "them out, or unset LOWTIDE_PROJECT"
        )


def _tell_of_unmatched(retried: Sequence[str], outcomes: Mapping[str, str | None]) -> None:
    """A type may be misspelt, and then nothing would be run again without a word."""
    failures = Counter(filter(None, outcomes.values()))
    there = ", ".join(f"{shown(failure)} ({count:,})" for failure, count in failures.most_common(TOLD))
    for name in sorted(set(retried) - failures.keys() - {NO_FAILURE}):
        click.echo(f"--retry {shown(name)}: no row has that error type; there are: {there or 'no failures'}", err=True)


def _is_left(source: Source, outcomes: Mapping[str, str | None], retried: Sequence[str]) -> bool:
    if source.request_id not in outcomes:
        return True
    failure = outcomes[source.request_id]
    return failure is not None and (not retried or failure in retried)


def _collect(
    collection: Collection, sources: Sequence[Source], file: Output, progress: ProgressBar, report: "Report | None"
) -> None:
    progress.begin()
    if report:
        report.gathered.begin()
    failures: dict[str, Result] = {}
    counts: Counter[str] = Counter()
    with contextlib.closing(collection.results(sources)) as results:
        for result in results:
            file.write(result)
            if report:
                report.gathered.add(result)
            failure = failure_of(result)
            progress.advance(failed=failure is not None)
            if failure is not None:
                counts[failure] += 1
                failures.setdefault(failure, result)
    for failure, count in counts.most_common(TOLD):
        name = failures[failure]["request_id"]
        why = error_of(failures[failure])[1].removeprefix(f"{name}: ")
        progress.note(f"{count:,} {failure}, such as {name[:TOLD_CHARS]}: {why[:TOLD_CHARS]}")


@contextlib.contextmanager
def _stopping(progress: ProgressBar, file: Output) -> Iterator[None]:
    """Ctrl-C leaves what is there, and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        on = "" if is_stream(file.path) else ": --resume goes on"
        progress.note(f"Stopped: {progress.done} of {progress.total} have a row in {file.path}{on}")
        sys.exit(STOPPED)


@contextlib.contextmanager
def _system(
    settings: Settings,
    model: str,
    weights: str | None,
    sources: Sequence[Source],
    workers: int,
    *,
    say: Callable[[str], None],
) -> Iterator[Settings]:
    """The settings of a system that serves `model`: the one of LOWTIDE_PROJECT, else one of our own."""
    if settings.project:
        yield settings
        return
    # Not `resolve`, which raises for links that lead in circles.
    large = (os.path.realpath(source.path) for source in sources if source.path and source.is_large)
    folders = {str(Path(real).parent) for real in large if is_utf8(real)}
    own = load_settings(
        models=_serving(settings, model),
        weights={**settings.weights, **({model: weights} if weights else {})},
        file_roots=tuple(sorted(folders | set(settings.file_roots))),
    )
    with tempfile.TemporaryDirectory(prefix="lowtide-") as folder:
        # Whoever shares a Redis or a subscription with a fleet answers its requests, and the fleet ours: perhaps with
        # other weights.
        stack = Stack(own, folder=Path(folder), workers=workers, alone=True)
        say("Starting Redis, Pub/Sub, a bridge and workers on this machine")
        with stack:
            try:
                stack.wait_ready()
                # Our own Pub/Sub client finds the stack as any process would.
                os.environ["PUBSUB_EMULATOR_HOST"] = stack.pubsub_host
                yield stack.settings
            except KeyboardInterrupt:
                say("Stopping")  # workers finish what they have begun, which may take a while
                raise


def _serving(settings: Settings, model: str) -> tuple[str, ...]:
    entry = next((entry for entry in settings.models if entry.partition("=")[0] == model), model)
    return (entry,)


def _summarize(
    progress: ProgressBar, *, failed: int, skipped: int, output: Path, report: Path | None, as_json: bool
) -> None:
    """`failed`: rows of the whole output. On standard error when results are on standard output."""
    summary = {
        "results": progress.done,
        "failed": failed,
        "skipped": skipped,
        "per_second": round(progress.per_second, 1),
        "output": str(output),
        **({"report": str(report)} if report else {}),
    }
    err = output == STDOUT
    if as_json:
        click.echo(json.dumps(summary), err=err)
        return
    already = f", {skipped} were there already" if skipped else ""
    click.echo(f"{progress.done} results, {failed} failed{already}: {shown(str(output))}", err=err)
    if progress.done:
        click.echo(f"{rounded(progress.per_second)} images a second", err=err)
    if report:
        click.echo(f"The report: {shown(str(report))}", err=err)

"""`lowtide classify`."""

import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import click

from lowtide.cli.collect import Collection
from lowtide.cli.options import examples, parse_params
from lowtide.cli.output import open_output
from lowtide.cli.progress import Progress, rounded
from lowtide.cli.sources import Source, find_sources, names_in
from lowtide.config import Settings, SettingsError, load_settings, pubsub_emulator
from lowtide.config.logs import configure_logging
from lowtide.local.stack import Stack

SILENCE_S = 60.0
"""So long without any result, and a person wonders."""


@click.command(
    epilog=examples(
        "lowtide classify photos/ --model resnet101",
        "lowtide classify gs://bucket/cat.jpg --model mobilenet_v2 --weights random --output cats.csv",
        "find photos -name '*.jpg' | lowtide classify --from-file - --model resnet101 --resume",
    )
)
@click.argument("paths", nargs=-1)
@click.option("--model", required=True, help="Model to run, for example digits or resnet101.")
@click.option(
    "--output",
    default="results.jsonl",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of results: .jsonl holds them whole, .csv holds filename,prediction.",
)
@click.option("--resume", is_flag=True, help="Go on with an output file: skip what it holds already.")
@click.option("--overwrite", is_flag=True, help="Replace an output file.")
@click.option("--from-file", type=click.File(), help="More paths and URIs, one a line; - for standard input.")
@click.option("--weights", help="Weights of the model on the embedded system: a URI, a torchvision name, or random.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter for the model, e.g. top_k=1.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Embedded workers.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    *,
    paths: Sequence[str],
    model: str,
    output: Path,
    resume: bool,
    overwrite: bool,
    from_file: TextIO | None,
    weights: str | None,
    params: Sequence[str],
    workers: int,
    as_json: bool,
) -> None:
    """Run every file, folder and gs:// or https:// URI of PATHS through a model, and collect every result.

    Runs on a system of its own on this machine, unless LOWTIDE_PROJECT names the project of one that is there.
    Exit code 1 if any request failed: its result says why.
    """
    values = parse_params(params)
    settings = load_settings()
    configure_logging(settings, default="WARNING")
    if not settings.subscription:
        raise SettingsError("LOWTIDE_SUBSCRIPTION is empty, and what is to be classified goes by topic: leave it unset")
    sources = find_sources([*paths, *(names_in(from_file) if from_file else ())])
    if not sources:
        raise click.UsageError("nothing to do: name files, folders or URIs")
    file, finished = open_output(output, resume=resume, overwrite=overwrite)
    with contextlib.closing(file):
        todo = [source for source in sources if source.request_id not in finished]
        with _system(settings, model, weights, todo, workers) as ready:
            collection = Collection(ready, model=model, params=values, local_files=ready is not settings)
            with Progress("classify", len(todo)) as progress, _hint(progress):
                for result in collection.results(todo):
                    file.write(result)
                    progress.advance(failed=result["status"] != "ok")
    _summarize(progress, skipped=len(sources) - len(todo), output=output, as_json=as_json)
    sys.exit(progress.failed > 0)


@contextlib.contextmanager
def _system(
    settings: Settings, model: str, weights: str | None, sources: Sequence[Source], workers: int
) -> Iterator[Settings]:
    """The settings of a system that serves `model`: the one of LOWTIDE_PROJECT, else one of our own."""
    if settings.project or not sources:
        yield settings
        return
    folders = {str(source.path.resolve().parent) for source in sources if source.path}
    own = load_settings(
        models=_serving(settings, model),
        weights={**settings.weights, **({model: weights} if weights else {})},
        file_roots=tuple(sorted(folders | set(settings.file_roots))),
    )
    with tempfile.TemporaryDirectory(prefix="lowtide-") as folder:
        stack = Stack(own, folder=Path(folder), workers=workers, pubsub_host=pubsub_emulator())
        click.echo("Starting Redis, Pub/Sub, a bridge and workers on this machine", err=True)
        with stack:
            stack.wait_ready()
            # Our own Pub/Sub client finds the stack as any process would.
            os.environ["PUBSUB_EMULATOR_HOST"] = stack.pubsub_host
            yield stack.settings


def _serving(settings: Settings, model: str) -> tuple[str, ...]:
    entry = next((entry for entry in settings.models if entry.partition("=")[0] == model), model)
    return (entry,)


@contextlib.contextmanager
def _hint(progress: Progress) -> Iterator[None]:
    """Says once that nothing comes, if nothing comes."""

    def hint() -> None:
        if not progress.done:
            progress.note(f"No result for {SILENCE_S:.0f} s: `lowtide doctor` tells whether bridge and workers run")

    timer = threading.Timer(SILENCE_S, hint)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _summarize(progress: Progress, *, skipped: int, output: Path, as_json: bool) -> None:
    summary = {
        "results": progress.done,
        "failed": progress.failed,
        "skipped": skipped,
        "per_second": round(progress.per_second, 1),
        "output": str(output),
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    already = f", {skipped} were there already" if skipped else ""
    click.echo(f"{progress.done} results, {progress.failed} failed{already}: {output}")
    click.echo(f"{rounded(progress.per_second)} images a second")

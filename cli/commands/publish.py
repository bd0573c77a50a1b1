"""`lowtide publish`."""

import contextlib
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import BinaryIO

import click

from lowtide.bridge.pubsub.client import Pubsub
from lowtide.cli import options
from lowtide.cli.answers.output import STDOUT
from lowtide.cli.options import TEXT, examples, parse_params
from lowtide.cli.sources.requests import Sent, publish_all, request_message
from lowtide.cli.sources.sources import Source, given_sources
from lowtide.cli.terminal import shown
from lowtide.config import Process, load_settings
from lowtide.tasks.wire.request import Priority

SAID_CHARS = 200


@click.command(
    epilog=examples(
        "lowtide publish --model digits 7.png",
        "lowtide publish --model resnet101 gs://bucket/cat.jpg --priority high --expires-in 60",
        "gsutil ls gs://bucket/*.jpg | lowtide publish --model resnet101 --from-file -",
    )
)
@click.argument("paths", nargs=-1)
@click.option("--model", type=TEXT, help="Model to run. Default: the bridge's default model.")
@options.from_file
@options.params
@click.option(
    "--reply-topic", type=TEXT, help="Topic for the results; the bridge has to allow it (LOWTIDE_REPLY_TOPICS)."
)
@click.option("--priority", type=click.Choice([p.value for p in Priority]), help="Order among what has been pulled.")
@click.option(
    "--expires-in", type=click.FloatRange(min=0), metavar="SECONDS", help="Not worth predicting after so long."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a request.")
def command(
    *,
    paths: Sequence[str],
    model: str | None,
    from_file: BinaryIO | None,
    params: Sequence[str],
    reply_topic: str | None,
    priority: str | None,
    expires_in: float | None,
    as_json: bool,
) -> None:
    """Publish every file, folder and URI of PATHS as a request, and print the message ids.

    Files up to 7 MB travel in the message. Read the answers with `lowtide results`.

    One that can't be read, or that Pub/Sub refuses, fails alone: a line says why, the others are published, and the
    exit code is 1.
    """
    settings, values = load_settings(Process.COMMAND), parse_params(params)
    sources = given_sources(paths, from_file, outputs=[STDOUT])
    optional = {"reply_topic": reply_topic, "priority": priority, "expires_at": _time_after(expires_in)}
    attributes = {name: value for name, value in optional.items() if value is not None}
    topic, failed = settings.topic_path(settings.topic), 0
    make = partial(request_message, model=model, params=values, attributes=attributes)
    with contextlib.closing(Pubsub()) as pubsub:
        for source, sent in publish_all(pubsub, topic, sources, make):
            failed += not isinstance(sent, str)
            _say(source, sent, as_json=as_json)
    sys.exit(failed > 0)


def _time_after(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"--expires-in {seconds}: there is no such time") from error


def _say(source: Source, sent: Sent, *, as_json: bool) -> None:
    """What became of a source: the message id, or why it is not published."""
    message_id, why = (sent, None) if isinstance(sent, str) else (None, str(sent))
    if as_json:
        error = {"error": why} if why else {}
        click.echo(json.dumps({"request_id": source.request_id, "message_id": message_id, **error}))
    elif why is None:
        click.echo(f"{message_id}  {shown(source.request_id)}")
    else:
        name, why = source.request_id, why.removeprefix(f"{source.request_id}: ")
        click.echo(shown(f"not published  {name[:SAID_CHARS]}: {why[:SAID_CHARS]}"), err=True)

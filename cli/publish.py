"""`lowtide publish`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TextIO

import click

from lowtide.bridge.pubsub import Pubsub
from lowtide.cli.collect import request_message
from lowtide.cli.options import examples, parse_params
from lowtide.cli.sources import find_sources, names_in
from lowtide.config import Process, load_settings
from lowtide.tasks.wire import Priority


@click.command(
    epilog=examples(
        "lowtide publish --model digits 7.png",
        "lowtide publish --model resnet101 gs://bucket/cat.jpg --priority high --expires-in 60",
        "gsutil ls gs://bucket/*.jpg | lowtide publish --model resnet101 --from-file -",
    )
)
@click.argument("paths", nargs=-1)
@click.option("--model", help="Model to run. Default: the bridge's default model.")
@click.option("--from-file", type=click.File(), help="More paths and URIs, one a line; - for standard input.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter for the model, e.g. top_k=1.")
@click.option("--reply-topic", help="Topic for the results; the bridge has to allow it (LOWTIDE_REPLY_TOPICS).")
@click.option("--priority", type=click.Choice([p.value for p in Priority]), help="Order among what has been pulled.")
@click.option("--expires-in", type=float, metavar="SECONDS", help="Not worth predicting after so long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a request.")
def command(
    *,
    paths: Sequence[str],
    model: str | None,
    from_file: TextIO | None,
    params: Sequence[str],
    reply_topic: str | None,
    priority: str | None,
    expires_in: float | None,
    as_json: bool,
) -> None:
    """Publish every file, folder and URI of PATHS as a request, and print the message ids.

    Files up to 7 MB travel in the message. Read the answers with `lowtide results`.
    """
    settings = load_settings(Process.COMMAND)
    sources = find_sources([*paths, *(names_in(from_file) if from_file else ())])
    if not sources:
        raise click.UsageError("nothing to do: name files, folders or URIs")
    expires_at = (datetime.now(UTC) + timedelta(seconds=expires_in)).isoformat() if expires_in is not None else None
    optional = {"reply_topic": reply_topic, "priority": priority, "expires_at": expires_at}
    attributes = {name: value for name, value in optional.items() if value is not None}
    topic, pubsub, values = settings.topic_path(settings.topic), Pubsub(), parse_params(params)
    for source in sources:
        message = request_message(source, model, values, attributes=attributes)
        (message_id,) = pubsub.publish(topic, [message])
        said = json.dumps({"request_id": source.request_id, "message_id": message_id})
        click.echo(said if as_json else f"{message_id}  {source.request_id}")
    pubsub.close()

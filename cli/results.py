"""`lowtide results`."""

import json
import time
from collections.abc import Mapping
from typing import Any

import click

from lowtide.bridge.pubsub import Pubsub
from lowtide.bridge.pulls import Pulls
from lowtide.cli.collect import PULL_AT_ONCE, WAIT_S, read_result
from lowtide.cli.options import examples
from lowtide.cli.output import prediction
from lowtide.config import Process, load_settings

IDLE_S = 5.0


@click.command(epilog=examples("lowtide results --max 1", "lowtide results --follow --json"))
@click.option("--subscription", help="Subscription to read. Default: the one that `lowtide bridge --create` makes.")
@click.option("--max", "limit", type=click.IntRange(min=1), help="Stop after so many; waits until they are there.")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print each result whole, as one JSON object a line.")
def command(*, subscription: str | None, limit: int | None, follow: bool, as_json: bool) -> None:
    """Read results from the results topic: what is read is acknowledged and not delivered again.

    Without --max or --follow: what is there, and what comes within five seconds.
    """
    settings = load_settings(Process.COMMAND)
    name = settings.subscription_path(subscription or settings.results_topic.rpartition("/")[2])
    pubsub, seen = Pubsub(), 0
    pulls = Pulls(pubsub, [name])
    idle_since_s = time.monotonic()
    while limit is None or seen < limit:
        pulls.ask(min(PULL_AT_ONCE, limit - seen) if limit else PULL_AT_ONCE)
        messages = pulls.take(WAIT_S) or []
        for message in messages:
            result = read_result(message)
            click.echo(json.dumps(result) if as_json else line(result))
        if messages:
            pubsub.acknowledge(name, [message.ack_id for message in messages])
            seen, idle_since_s = seen + len(messages), time.monotonic()
        elif not (follow or limit) and time.monotonic() - idle_since_s > IDLE_S:
            break
    pulls.cancel()
    pubsub.close()


def line(result: Mapping[str, Any]) -> str:
    """A result as a person wants to see it."""
    error = result["error"]
    said = f"{error['type']}: {error['message']}" if error else prediction(result)
    return f"{result['status']:<7} {result['model']}  {result['request_id']}  {said}"

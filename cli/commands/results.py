"""`lowtide results`."""

import contextlib
import json
import math

import click

from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.pubsub.client import Pubsub
from lowtide.cli import options
from lowtide.cli.answers.answers import DEAD, NoResult, Result, error_of, is_dead_letter, read_dead_letter, read_result
from lowtide.cli.answers.collect import TIMEOUT_S
from lowtide.cli.answers.output import prediction
from lowtide.cli.answers.reading import Reading
from lowtide.cli.answers.silence import Silence, duration, why_silent
from lowtide.cli.options import WAIT, examples
from lowtide.cli.terminal import shown
from lowtide.config import Process, load_settings
from lowtide.config.process.logs import configure_logging
from lowtide.tasks.errors import LowtideError

IDLE_S = 5.0
ELSEWHERE = "what can't have a result is a dead letter: `lowtide replay --dry-run` lists them"


class NoResults(LowtideError):
    """Raised when fewer results came than were waited for."""


@click.command(epilog=examples("lowtide results --max 1", "lowtide results --follow --json"))
@options.subscription
@click.option("--max", "limit", type=click.IntRange(min=1), help="Stop after so many; waits until they are there.")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--timeout",
    type=WAIT,
    help="Give up after so long without any result, with --max with exit code 1. Default: 30m with --max, else 5s.",
)
@click.option(
    "--drop-foreign", is_flag=True, help="Acknowledge what is no result, too: it is gone for good. Default: it stays."
)
@click.option("--json", "as_json", is_flag=True, help="Print each result whole, as one JSON object a line.")
def command(
    *,
    subscription: str | None,
    limit: int | None,
    follow: bool,
    timeout: float | None,
    drop_foreign: bool,
    as_json: bool,
) -> None:
    """Read results from the results topic: what is read is acknowledged and not delivered again.

    Without --max or --follow: what is there, and what comes within five seconds, or within --timeout.

    What other programs wrote there is told of on standard error, and stays. So do dead letters, which are shown with
    the status dead: `lowtide replay` puts them back.
    """
    settings = load_settings(Process.COMMAND)
    configure_logging(settings, default="WARNING")
    name = settings.subscription_path(subscription or settings.results_topic.rpartition("/")[2])
    timeout_s = timeout or (TIMEOUT_S if limit else IDLE_S)
    silence = Silence(
        timeout_s=math.inf if follow else timeout_s,
        look=(lambda: f"{why_silent(settings)}; {ELSEWHERE}") if limit else (lambda: ""),
        say=lambda said: click.echo(shown(said), err=True),
    )
    with contextlib.closing(Pubsub()) as pubsub, Reading(pubsub, name, silence=silence) as reading:
        try:
            for message in reading.messages(limit=limit):
                _show(reading, message, drop=drop_foreign, as_json=as_json)
        except KeyboardInterrupt:
            if not follow:
                raise
    if limit and reading.count < limit and not follow:
        raise NoResults(
            f"{reading.count} of {limit} results came, then none for {duration(timeout_s)}: {silence.cause}"
        )


def _show(reading: Reading, message: Received, *, drop: bool, as_json: bool) -> None:
    is_dead = is_dead_letter(message)
    try:
        result = read_dead_letter(message, status=DEAD) if is_dead else read_result(message)
    except NoResult as error:
        stays = "dropped" if drop else "it stays"
        click.echo(shown(f"Message {message.message_id} is no result ({stays}): {error}"), err=True)
        reading.done(message, acknowledge=drop, counts=False)
    else:
        click.echo(json.dumps(result) if as_json else line(result))
        reading.done(message, acknowledge=not is_dead)


def line(result: Result) -> str:
    """A result as a person wants to see it."""
    kind, why = error_of(result)
    said = prediction(result) if result["status"] == "ok" else f"{kind}: {why}" if why else kind
    return shown(f"{result['status']:<7} {result['model']}  {result['request_id']}  {said}")

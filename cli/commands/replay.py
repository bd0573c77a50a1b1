"""`lowtide replay`."""

import contextlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.pubsub.client import Pubsub
from lowtide.bridge.replay import Became, Choice, Handled, Replay, reason_of
from lowtide.cli import options
from lowtide.cli.answers.progress import ProgressBar
from lowtide.cli.options import DURATION, TEXT, WAIT, examples
from lowtide.cli.terminal import shown
from lowtide.config import Process, load_settings
from lowtide.config.process.logs import configure_logging

ERROR_WIDTH = 80
FOREIGN = "without a reason (of other programs: --foreign puts them back)"
HEADER = f"{'published':<20} {'reason':<24} {'request':<20} error"


@click.command(
    epilog=examples(
        "lowtide replay --dry-run",
        "lowtide replay --reason unknown_model --newer-than 2h",
        "lowtide replay --reason worker_lost --older-than 15m --max 100",
    )
)
@click.option("--reason", "reasons", multiple=True, help="Only letters with this lowtide_reason. May be repeated.")
@click.option(
    "--foreign", is_flag=True, help="Also what no bridge wrote: messages of other programs, without a lowtide_reason."
)
@click.option("--older-than", type=DURATION, metavar="AGE", help="Only letters older than this: 90s, 15m, 2h, 3d, 1w.")
@click.option("--newer-than", type=DURATION, metavar="AGE", help="Only letters younger than this.")
@click.option("--max", "limit", type=click.IntRange(min=1), help="At most so many letters.")
@click.option("--topic", type=TEXT, help="Topic for the requests. Default: LOWTIDE_TOPIC.")
@options.subscription
@click.option(
    "--timeout", type=WAIT, default="5s", show_default=True, help="So long without a letter, and there are no more."
)
@click.option("--dry-run", is_flag=True, help="List the letters that would be put back, and leave all of them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a letter.")
def command(
    *,
    reasons: Sequence[str],
    foreign: bool,
    older_than: float | None,
    newer_than: float | None,
    limit: int | None,
    topic: str | None,
    subscription: str | None,
    timeout: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put dead letters back as the requests that they were.

    A letter is acknowledged after Pub/Sub confirmed its request: stopped at any moment, nothing is lost. Letters that
    come while it runs stay, so that what fails again is not put back again, and so do messages of other programs.
    """
    settings = load_settings(Process.COMMAND)
    configure_logging(settings, default="WARNING")
    now_s = time.time()
    choice = Choice(
        reasons=frozenset(reasons),
        foreign=foreign,
        before_s=now_s - (older_than or 0.0),
        after_s=now_s - newer_than if newer_than is not None else 0.0,
    )
    became: Counter[Became] = Counter()
    letters = settings.subscription_path(subscription or settings.dead_letter_topic.rpartition("/")[2])
    with contextlib.closing(Pubsub()) as pubsub:
        replay = Replay(
            pubsub,
            subscription=letters,
            topic=settings.topic_path(topic or settings.topic),
            choice=choice,
            limit=limit,
            dry_run=dry_run,
            idle_s=timeout,
        )
        with ProgressBar("replay", limit) as progress, replay:
            for one in replay.run():
                became[one.became] += 1
                progress.advance(failed=one.became not in (Became.REPLAYED, Became.LISTED))
                _say(one, as_json=as_json, first=became.total() == 1)
    _summarize(became, replay.left)
    sys.exit(became[Became.REFUSED] > 0)


def _say(one: Handled, *, as_json: bool, first: bool) -> None:
    if as_json:
        click.echo(json.dumps(described(one)))
    elif one.became is Became.LISTED:
        click.echo(f"{HEADER}\n{row(one.letter)}" if first else row(one.letter))
    elif one.became is Became.REFUSED:
        click.echo(shown(f"Pub/Sub refuses {request_id_of(one.letter)}: {one.why}"), err=True)


def described(one: Handled) -> dict[str, object]:
    """A letter and what became of it, JSON-ready."""
    given = one.letter.attributes
    return {
        "became": one.became.value,
        "reason": reason_of(one.letter),
        "error": given.get("lowtide_error", ""),
        "attempts": _attempts(given.get("lowtide_attempts", "0")),
        "request_id": request_id_of(one.letter),
        "published_at": _at(one.letter),
        "letter_id": one.letter.message_id,
        "message_id": one.message_id,
        "bytes": len(one.letter.data),
    }


def request_id_of(letter: Received) -> str:
    """What the bridge says that the request was called; empty in a foreign message."""
    return letter.attributes.get("lowtide_request_id", "")


def _attempts(said: str) -> int | None:
    """None: it was not a bridge that wrote this."""
    return int(said) if re.fullmatch(r"[0-9]{1,9}", said) else None


def row(letter: Received) -> str:
    """A letter as a person wants to see it."""
    error = " ".join(letter.attributes.get("lowtide_error", "").split())
    request = request_id_of(letter)
    return shown(f"{_at(letter):<20} {reason_of(letter):<24} {request:<20} {error[:ERROR_WIDTH]}".rstrip())


def _at(letter: Received) -> str:
    return datetime.fromtimestamp(letter.published_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _summarize(became: Counter[Became], left: Counter[str]) -> None:
    """On standard error: standard output is for letters."""
    done = became[Became.REPLAYED]
    listed = became[Became.LISTED]
    click.echo(f"{listed} would be put back" if listed else f"{done} put back", err=True)
    if lost := became[Became.TRUNCATED]:
        click.echo(f"{lost} left: their data was too large for a letter and is lost; publish them anew", err=True)
    if empty := became[Became.EMPTY]:
        click.echo(f"{empty} left: they hold nothing that could be published", err=True)
    if refused := became[Became.REFUSED]:
        click.echo(f"{refused} left: Pub/Sub does not take them", err=True)
    if left:
        counts = ", ".join(f"{count} {reason or FOREIGN}" for reason, count in left.most_common())
        click.echo(shown(f"{left.total()} not chosen: {counts}"), err=True)

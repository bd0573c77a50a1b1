"""`lowtide status`."""

import json
import logging
import signal
import time
from collections.abc import Iterator

import click

from lowtide.cli.fleet.look import Looker
from lowtide.cli.fleet.status_report import Look, Waiting, to_wire
from lowtide.cli.options import WAIT, examples
from lowtide.config import Process, load_settings
from lowtide.tasks.errors import LowtideError


class NoAnswer(LowtideError):
    """Raised when Redis can't be read: without it nothing is known of the fleet."""


@click.command(epilog=examples("lowtide status", "lowtide status --watch", "lowtide status --watch --every 10s --json"))
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C, also while Redis is away.")
@click.option("--every", type=WAIT, default="2s", show_default=True, help="How often to look, with --watch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each look.")
def command(*, watch: bool, every: float, as_json: bool) -> None:
    """Show what waits, who works, and how large the fleet should be, with the reason.

    Reads Redis and, if LOWTIDE_PROJECT is set, Cloud Monitoring every 15 s: how many messages Pub/Sub holds, and what
    the fleet was sized by before. Without that it knows of Pub/Sub what the bridges have pulled, and says so.
    """
    # What is away is told in the report. Without any handler Python would write it to the screen as well.
    logging.getLogger().addHandler(logging.NullHandler())
    if watch:
        # SIGTERM leaves the screen as it was, too; and a shell starts what runs in the background with SIGINT ignored.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.default_int_handler)
    with Looker(load_settings(Process.COMMAND)) as looker:
        try:
            looks = _watched(looker, every_s=every) if watch else iter([_once(looker)])
            if as_json:
                for one in looks:
                    click.echo(json.dumps(to_wire(one)))
            else:
                _show(looks, live=watch)
        except KeyboardInterrupt:
            pass


def _once(looker: Looker) -> Look:
    look = looker.look()
    if isinstance(look, Waiting):
        raise NoAnswer(f"Redis at LOWTIDE_REDIS_URL can't be read: {look.redis.why}")
    return look


def _watched(looker: Looker, *, every_s: float) -> Iterator[Look]:
    while True:
        yield looker.look()
        time.sleep(every_s)


def _show(looks: Iterator[Look], *, live: bool) -> None:
    # Not at the top: `--json` does without the extra that installs it.
    from rich.console import Console
    from rich.live import Live

    from lowtide.cli.fleet.view import view

    console = Console()
    if live and console.is_terminal:
        with Live(console=console, auto_refresh=False, screen=True) as screen:
            for one in looks:
                screen.update(view(one), refresh=True)
    else:
        for one in looks:
            console.print(view(one))

"""`lowtide status`."""

import json
import signal
import time
from collections.abc import Iterator

import click
from redis import RedisError
from rich.console import Console
from rich.live import Live

from lowtide.autoscaling.decide import Group
from lowtide.autoscaling.snapshot import Camera
from lowtide.cli.options import DURATION, examples
from lowtide.cli.status_report import Report, report, to_wire, view
from lowtide.config import Settings, load_settings
from lowtide.tasks.errors import LowtideError
from lowtide.tasks.store import connect


class NoAnswer(LowtideError):
    """Raised when Redis can't be read: without it nothing is known of the fleet."""


@click.command(epilog=examples("lowtide status", "lowtide status --watch", "lowtide status --watch --every 10s --json"))
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--every", type=DURATION, default="2s", show_default=True, help="How often to look, with --watch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each look.")
def command(*, watch: bool, every: float, as_json: bool) -> None:
    """Show what waits, who works, and how large the fleet should be, with the reason.

    Reads Redis alone. Of the messages in Pub/Sub it knows those that bridges have pulled; what waits beyond them, the
    subscription's own metric tells.
    """
    settings = load_settings()
    if watch:
        # SIGTERM leaves the screen as it was, too; and a shell starts what runs in the background with SIGINT ignored.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.default_int_handler)
    try:
        reports = looks(settings, every_s=every) if watch else iter([next(looks(settings, every_s=0))])
        if as_json:
            for one in reports:
                click.echo(json.dumps(to_wire(one)))
        else:
            _show(reports, live=watch)
    except RedisError as error:
        raise NoAnswer(f"Redis at LOWTIDE_REDIS_URL does not answer: {error}") from error
    except KeyboardInterrupt:
        pass


def looks(settings: Settings, *, every_s: float) -> Iterator[Report]:
    """A report now and every `every_s` seconds; each recommendation knows the earlier ones. Raises RedisError."""
    camera, group = Camera(connect(settings), settings), None
    while True:
        snapshot = camera.take()
        group = Group(size=len(snapshot.workers), recommendations=group.recommendations if group else ())
        latest = report(snapshot, settings=settings, group=group)
        group = latest.decision.group
        yield latest
        time.sleep(every_s)


def _show(reports: Iterator[Report], *, live: bool) -> None:
    console = Console()
    if live and console.is_terminal:
        with Live(console=console, auto_refresh=False, screen=True) as screen:
            for one in reports:
                screen.update(view(one), refresh=True)
    else:
        for one in reports:
            console.print(view(one))

"""`lowtide doctor`."""

import sys
from collections.abc import Iterator

import click

from lowtide.cli.checks import checks
from lowtide.cli.checks import redis as check_redis
from lowtide.cli.checks import settings as check_settings
from lowtide.cli.checks.findings import Finding, failed
from lowtide.cli.checks.report import report
from lowtide.config import Settings, SettingsError, read_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a finding.")
def command(*, as_json: bool) -> None:
    """Check configuration, Redis, Pub/Sub, devices and models, and say what to do. Exit code 1 if anything fails."""
    sys.exit(report(examine(read_settings()), as_json=as_json))


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which problems should be solved."""
    yield from check_settings.wrong(settings)
    yield from check_settings.environment()
    for check in (check_redis.redis, checks.pubsub, checks.fleet, checks.queues, checks.preemption, checks.models):
        try:
            yield from check(settings)
        except SettingsError as error:
            if str(error) not in settings.wrong.values():  # else it was told of
                yield failed("Settings", str(error), "correct it")

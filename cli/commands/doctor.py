"""`lowtide doctor`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import click

from lowtide.cli.checks import checks
from lowtide.cli.checks import redis as check_redis
from lowtide.cli.checks import settings as check_settings
from lowtide.cli.checks.findings import Finding, Verdict, failed
from lowtide.cli.terminal import shown_lines
from lowtide.config import Settings, SettingsError, read_settings
from lowtide.config.redact import redacted

SIGNS = {Verdict.OK: ("ok  ", "green"), Verdict.WARNING: ("warn", "yellow"), Verdict.FAILED: ("FAIL", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a finding.")
def command(*, as_json: bool) -> None:
    """Check configuration, Redis, Pub/Sub, devices and models, and say what to do. Exit code 1 if anything fails."""
    findings = []
    for found in examine(read_settings()):
        finding = replace(found, message=redacted(found.message))
        findings.append(finding)
        click.echo(json.dumps(asdict(finding)) if as_json else paragraph(finding))
    sys.exit(any(finding.verdict is Verdict.FAILED for finding in findings))


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


def paragraph(finding: Finding) -> str:
    """A finding as a person wants to see it."""
    sign, colour = SIGNS[finding.verdict]
    remedy = f"\n      → {finding.remedy}" if finding.remedy else ""
    return f"{click.style(sign, fg=colour)}  {finding.what}: {shown_lines(finding.message)}{remedy}"

"""`lowtide doctor`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

import click

from lowtide.cli import checks
from lowtide.cli.checks import Finding, Verdict
from lowtide.config import Settings, load_settings
from lowtide.config.redact import redacted

SIGNS = {Verdict.OK: ("ok  ", "green"), Verdict.WARNING: ("warn", "yellow"), Verdict.FAILED: ("FAIL", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a finding.")
def command(*, as_json: bool) -> None:
    """Check configuration, Redis, Pub/Sub, devices and models, and say what to do. Exit code 1 if anything fails."""
    findings = []
    for found in examine(load_settings()):
        finding = replace(found, message=redacted(found.message))
        findings.append(finding)
        click.echo(json.dumps(finding.as_dict()) if as_json else paragraph(finding))
    sys.exit(any(finding.verdict is Verdict.FAILED for finding in findings))


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which problems should be solved."""
    yield from checks.environment()
    yield from checks.redis(settings)
    yield from checks.pubsub(settings)
    yield from checks.fleet(settings)
    yield from checks.preemption(settings)
    yield from checks.models(settings)


def paragraph(finding: Finding) -> str:
    """A finding as a person wants to see it."""
    sign, colour = SIGNS[finding.verdict]
    remedy = f"\n      → {finding.remedy}" if finding.remedy else ""
    return f"{click.style(sign, fg=colour)}  {finding.what}: {finding.message}{remedy}"

"""How findings are shown."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

import click

from lowtide.cli.checks.findings import Finding, Verdict
from lowtide.cli.terminal import shown_lines
from lowtide.config.redact import redacted

SIGNS = {Verdict.OK: ("ok  ", "green"), Verdict.WARNING: ("warn", "yellow"), Verdict.FAILED: ("FAIL", "red")}


def report(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Print each as it is found. Whether anything failed."""
    any_failed = False
    for found in findings:
        finding = replace(found, message=redacted(found.message))
        any_failed = any_failed or finding.verdict is Verdict.FAILED
        click.echo(json.dumps(asdict(finding)) if as_json else paragraph(finding))
    return any_failed


def paragraph(finding: Finding) -> str:
    """A finding as a person wants to see it."""
    sign, colour = SIGNS[finding.verdict]
    remedy = f"\n      → {finding.remedy}" if finding.remedy else ""
    return f"{click.style(sign, fg=colour)}  {finding.what}: {shown_lines(finding.message)}{remedy}"

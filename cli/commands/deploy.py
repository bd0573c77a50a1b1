"""`lowtide deploy`."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from lowtide.cli.checks.report import report
from lowtide.cli.deploy import boot_time
from lowtide.cli.deploy.explain import in_json, in_words
from lowtide.cli.deploy.plan import read_plan
from lowtide.cli.deploy.terraform import ROOT, Terraform
from lowtide.cli.deploy.variables import FILE, Variables, changes, variables_of
from lowtide.cli.options import examples
from lowtide.cli.terminal import shown
from lowtide.config import Process, load_settings

PRINTED = "-"


@click.group(epilog=examples("lowtide deploy check", "lowtide deploy plan"))
def command() -> None:
    """Prepare a fleet on Google Cloud, which deploy/terraform makes: see docs/deploy.md."""


@command.command(
    "vars",
    epilog=examples(
        "LOWTIDE_PROJECT=my-project LOWTIDE_MODELS=resnet101 lowtide deploy vars",
        "LOWTIDE_CONFIG=lowtide.toml lowtide deploy vars",
        "lowtide deploy vars --output -",
    ),
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=ROOT / FILE,
    show_default=True,
    help="File to write; - prints.",
)
def vars_command(*, output: Path) -> None:
    """Write the settings as variables of Terraform.

    What was set here, in the environment and the file of LOWTIDE_CONFIG, is what the fleet is made of: its topics and
    subscriptions, the autoscaler's policy, and what every process is told. Change a setting, write them again, and
    `terraform plan` shows what it means. Passwords are not written: LOWTIDE_REDIS_URL and LOWTIDE_FLOWER_BASIC_AUTH
    stay here.
    """
    settings = load_settings()
    variables = variables_of(settings)
    if str(output) == PRINTED:
        click.echo(_text(variables), nl=False)
    elif not output.parent.is_dir():
        raise click.UsageError(f"--output {shown(str(output))}: no such folder; run it in a checkout, or name a file")
    else:
        _write(variables, output, fleet=settings.fleet)
    _note(variables)


@command.command(
    "plan",
    epilog=examples("lowtide deploy plan", "LOWTIDE_FLEET_MAX=20 lowtide deploy plan", "lowtide deploy plan --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print what the plan means as one JSON object.")
def plan_command(*, as_json: bool) -> None:
    """Say what Terraform would make of the settings, and what it costs. Nothing is applied.

    Writes the settings as `lowtide deploy vars` does, runs `terraform plan`, whose own words go to standard error, and
    says what the plan means: what is made, changed and destroyed, how many workers of which machine there may be and
    what they are sized by, and what a month without work and an hour of a busy worker cost. The last line says how to
    apply it.

    It runs in a checkout, after `terraform -chdir=deploy/terraform init`.
    """
    _require_checkout()
    terraform = Terraform()
    settings = load_settings()
    variables = variables_of(settings)
    _write(variables, ROOT / FILE, fleet=settings.fleet)
    _note(variables)
    terraform.plan()
    plan = read_plan(terraform.show_plan())
    click.echo(json.dumps(in_json(plan)) if as_json else in_words(plan))


@command.command("check", epilog=examples("lowtide deploy check", "lowtide deploy check --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a finding.")
def check_command(*, as_json: bool) -> None:
    """Check what a project lacks for the fleet, and say what to do. Exit code 1 if anything fails.

    Looks at credentials, APIs, permissions, zones and quotas (that of Spot GPUs is 0 in most projects), the workers'
    disk image and its driver, container images, Redis' password, metrics, and topics that are there already. It asks
    Google's APIs by the application default credentials (`gcloud auth application-default login`), and changes
    nothing.

    It runs in a checkout, after `terraform -chdir=deploy/terraform init`.
    """
    _require_checkout()
    # The bridge's extra, which brings Google's libraries, may be absent.
    from lowtide.cli.deploy.apis import connect_apis
    from lowtide.cli.deploy.check import examine

    variables = variables_of(load_settings()).values
    sys.exit(report(examine(variables, connect_apis), as_json=as_json))


@command.command(
    "boot-time",
    epilog=examples(
        "lowtide deploy boot-time",
        "lowtide deploy boot-time lowtide-worker-x7k2 --zone us-central1-a",
    ),
)
@click.argument("vm", required=False)
@click.option("--zone", help="Zone of the VM.")
@click.option("--port", default=8080, show_default=True, help="The worker's LOWTIDE_HEALTH_PORT.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def boot_time_command(*, vm: str | None, zone: str | None, port: int, as_json: bool) -> None:
    """Show how long a worker took to boot, phase by phase, beside the budget of docs/deploy.md.

    Of VM, which is asked through gcloud and SSH, from its creation on; without VM, of the worker on this machine. The
    worker has to run, and to have a health port. Exit code 1 if a phase took longer than its budget.
    """
    if (vm is None) != (zone is None):
        raise click.UsageError("a VM and its --zone belong together; without both it is about this machine")
    if vm is None or zone is None:
        found = boot_time.here(port=port)
    else:
        project = load_settings(Process.COMMAND).project
        found = boot_time.of_vm(vm, zone=zone, project=project, port=port)
    click.echo(json.dumps(found.to_wire()) if as_json else "\n".join(boot_time.table(found)))
    if found.note:
        click.echo(f"Note: {found.note}", err=True)
    sys.exit(found.is_over)


def _require_checkout() -> None:
    if not ROOT.is_dir():
        raise click.UsageError(f"{ROOT}: no such folder; run it in a checkout of Lowtide")


def _text(variables: Variables) -> str:
    return json.dumps(variables.values, indent=2) + "\n"


def _write(variables: Variables, output: Path, *, fleet: str) -> None:
    if before := _written(output):
        for change in changes(before, variables.values):
            click.echo(f"Note: {change}", err=True)
    output.write_text(_text(variables), encoding="utf-8")
    policy = variables.values["policy"]
    click.echo(
        f"{shown(str(output))}: fleet {fleet} of {variables.values['project']}, "
        f"{policy['min_replicas']} to {policy['max_replicas']} workers",
        err=True,
    )


def _written(output: Path) -> dict[str, Any] | None:
    """What is there so far, if it is ours and can be read."""
    try:
        before = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return before if isinstance(before, dict) and isinstance(before.get("settings"), dict) else None


def _note(variables: Variables) -> None:
    for note in variables.notes:
        click.echo(f"Note: {note}", err=True)

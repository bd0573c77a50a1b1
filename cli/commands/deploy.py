"""`lowtide deploy`."""

import json
import sys
from pathlib import Path

import click

from lowtide.cli.deploy import boot_time
from lowtide.cli.deploy.variables import FILE, variables_of
from lowtide.cli.options import examples
from lowtide.cli.terminal import shown
from lowtide.config import Process, load_settings

ROOT = Path("deploy/terraform")
PRINTED = "-"


@click.group(epilog=examples("lowtide deploy vars"))
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
    text = json.dumps(variables.values, indent=2) + "\n"
    if str(output) == PRINTED:
        click.echo(text, nl=False)
    elif not output.parent.is_dir():
        raise click.UsageError(f"--output {shown(str(output))}: no such folder; run it in a checkout, or name a file")
    else:
        output.write_text(text, encoding="utf-8")
        policy = variables.values["policy"]
        click.echo(
            f"{shown(str(output))}: fleet {settings.fleet} of {settings.project}, "
            f"{policy['min_replicas']} to {policy['max_replicas']} workers",
            err=True,
        )
    for note in variables.notes:
        click.echo(f"Note: {note}", err=True)


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

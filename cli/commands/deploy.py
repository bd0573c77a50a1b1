"""`lowtide deploy`."""

import json
from pathlib import Path

import click

from lowtide.cli.deploy.variables import FILE, variables_of
from lowtide.cli.options import examples
from lowtide.cli.terminal import shown
from lowtide.config import load_settings

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

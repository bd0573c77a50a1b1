"""The command group: finds a command's module when it is called, and turns errors into sentences."""

import importlib
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from lowtide.cli import STOPPED
from lowtide.cli.terminal import shown_lines
from lowtide.config import SettingsError
from lowtide.config.redact import redacted
from lowtide.tasks.errors import LowtideError

log = logging.getLogger(__name__)

SAID_CHARS = 500
"""So much is shown of what an unexpected error says."""

MISSING = ": look at its name and LOWTIDE_PROJECT; `lowtide bridge --create` makes what a fleet needs"

COMMANDS = {
    "classify": "Run files or URIs through a model and collect every result.",
    "up": "Run the whole system on this machine until Ctrl-C.",
    "bridge": "Run a bridge: Pub/Sub to Celery and back.",
    "worker": "Run a worker: the models of the fleet on this machine's devices.",
    "flower": "Run Flower, to watch.",
    "autoscale": "Write the fleet's figures to Cloud Monitoring, to be sized by.",
    "publish": "Publish files or URIs as requests.",
    "results": "Read results from the results topic.",
    "replay": "Put dead letters back as the requests that they were.",
    "status": "Show what waits, who works, and how large the fleet should be.",
    "deploy": "Prepare a fleet on Google Cloud.",
    "doctor": "Check configuration, Redis, Pub/Sub, devices and weights, and say what to do.",
}


class Commands(click.Group):
    """Commands by name; `lowtide worker` imports torch, `lowtide --help` does not."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command from its module."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"lowtide.cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of `lowtide --help`, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error is a sentence and exit code 1, not a traceback. That goes to the log at DEBUG, and
        with --debug to standard error.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click knows what to do
        except KeyboardInterrupt:
            click.echo("Stopped", err=True)
            sys.exit(STOPPED)
        except Exception as error:
            where = redacted(traceback.format_exc())
            log.debug("%s", where)
            if ctx.params["debug"]:
                click.echo(shown_lines(where), err=True)
            # Some errors quote the end of a log, which has several lines.
            raise click.ClickException(shown_lines(redacted(sentence(error)))) from error


def sentence(error: Exception) -> str:
    """An error as a person can use it."""
    if isinstance(error, LowtideError | SettingsError):
        # Not by its class: that would import gRPC.
        return f"{error}{MISSING}" if getattr(error, "code", None) == "NOT_FOUND" else str(error)
    if isinstance(error, ModuleNotFoundError):
        return _missing(error)
    if isinstance(error, OSError) and error.strerror:
        names = " to ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{names}: {error.strerror}" if names else error.strerror
    said = " ".join(str(error).split())[:SAID_CHARS]
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"unexpected: {what}. `lowtide --debug …` shows where it comes from"


def _missing(error: ModuleNotFoundError) -> str:
    extras = {
        "torch": "worker",
        "torchvision": "worker",
        "google": "bridge",
        "flower": "flower",
        "grpc": "bridge",
        "rich": "autoscaling",
        "cronsim": "autoscaling",
        "prometheus_client": "autoscaling",
        "jinja2": "report",
        "matplotlib": "report",
        "numpy": "report",
        "PIL": "report",
        "simplejpeg": "report",
    }
    extra = extras.get((error.name or "").partition(".")[0], "local")
    return f'{error.name} is not installed: pip install "lowtide[{extra}]"'


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lowtide")
@click.option("--debug", is_flag=True, help="Show where an error comes from, for a report of a bug.")
def main(*, debug: bool) -> None:
    """Asynchronous, pull-based GPU inference.

    Requests come from a Pub/Sub topic or from Python; workers pull them when they have room. Settings come from
    LOWTIDE_* environment variables and the file that LOWTIDE_CONFIG names.

    Exit codes: 0 all is well, 1 something failed, 2 the command line is wrong, 130 after Ctrl-C.

    Start with `lowtide up`, or with `lowtide classify photos/ --model resnet101`.
    """
    _open_closed_streams()


def _open_closed_streams() -> None:
    """Standard streams that were closed when the process began lead nowhere. Else a file of ours would get such a
    stream's number, and what is written to it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end

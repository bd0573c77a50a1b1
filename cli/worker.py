"""`lowtide worker`."""

import sys

import click

from lowtide.config import load_settings
from lowtide.config.logs import configure_logging
from lowtide.workers.worker import run_worker


@click.command()
def command() -> None:
    """Run a worker in the foreground: it serves every model of LOWTIDE_MODELS on this machine's devices.

    Stops on SIGTERM or Ctrl-C: finishes what fits into LOWTIDE_GRACE_S and hands the rest back.
    """
    settings = load_settings()
    configure_logging(settings)
    sys.exit(run_worker(settings))

"""`lowtide worker`."""

import sys

import click

from lowtide.cli.options import examples
from lowtide.config import Process, load_settings
from lowtide.config.process.logs import configure_logging
from lowtide.workers.worker import load_models, run_worker


@click.command(
    epilog=examples(
        "LOWTIDE_REDIS_URL=redis://10.0.0.5:6379/0 LOWTIDE_MODELS=resnet101 lowtide worker",
        "LOWTIDE_MODELS=mine=package.module:Class lowtide worker",
        "LOWTIDE_MODELS=resnet101 lowtide worker --load-only",
    )
)
@click.option(
    "--load-only", is_flag=True, help="Load the models on the CPU, which fills the caches of weights, and end."
)
def command(*, load_only: bool) -> None:
    """Run a worker in the foreground: it serves every model of LOWTIDE_MODELS on this machine's devices.

    It talks to Redis alone (LOWTIDE_REDIS_URL), and to where content is: it needs no project and no topic.
    Stops on SIGTERM or Ctrl-C: finishes what fits into LOWTIDE_GRACE_S and hands the rest back.
    """
    settings = load_settings(Process.WORKER)
    configure_logging(settings)
    if load_only:
        load_models(settings)
    else:
        sys.exit(run_worker(settings))

"""`lowtide bridge`."""

import sys

import click

from lowtide.bridge.bridge import Bridge
from lowtide.bridge.create import check_exists, create_missing
from lowtide.cli.options import examples
from lowtide.config import SettingsError, load_settings
from lowtide.config.logs import configure_logging


@click.command(
    epilog=examples(
        "LOWTIDE_PROJECT=my-project LOWTIDE_MODELS=resnet101 lowtide bridge --create",
        "LOWTIDE_PROJECT=test PUBSUB_EMULATOR_HOST=localhost:8085 lowtide bridge --create",
    )
)
@click.option("--create", is_flag=True, help="Make the topics and subscriptions that are missing, then run.")
@click.option("--create-only", is_flag=True, help="Make the topics and subscriptions that are missing, then exit.")
def command(*, create: bool, create_only: bool) -> None:
    """Run a bridge in the foreground: pull requests from Pub/Sub, hand them to workers, publish what becomes of them.

    Needs LOWTIDE_PROJECT, and what the workers have: LOWTIDE_REDIS_URL and LOWTIDE_MODELS.
    Stops on SIGTERM or Ctrl-C: settles what comes within LOWTIDE_GRACE_S and hands the rest back.
    """
    settings = load_settings()
    configure_logging(settings)
    if not settings.subscription:
        raise SettingsError("LOWTIDE_SUBSCRIPTION is empty: a fleet that only Python callers use needs no bridge")
    if create or create_only:
        create_missing(settings)
    if create_only:
        return
    check_exists(settings)
    sys.exit(Bridge(settings).run())

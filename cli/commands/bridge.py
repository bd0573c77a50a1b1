"""`lowtide bridge`."""

import sys
import time

import click

from lowtide.bridge.bridge import Bridge
from lowtide.bridge.pubsub.client import PubsubUnavailable
from lowtide.bridge.pubsub.create import create_missing, prepare
from lowtide.cli.options import examples
from lowtide.config import Process, Settings, SettingsError, load_settings
from lowtide.config.process.logs import configure_logging
from lowtide.config.process.memory import keep_freed
from lowtide.config.process.outage import Outage
from lowtide.tasks.redis import protocol
from lowtide.tasks.redis.rights import Rights

AGAIN_S = 1.0


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
    keep_freed()
    settings = load_settings(Process.BRIDGE)
    configure_logging(settings)
    if not settings.subscription:
        raise SettingsError("LOWTIDE_SUBSCRIPTION is empty: a fleet that only Python callers use needs no bridge")
    if create_only:
        create_missing(settings)
        return
    _wait_for_pubsub(settings, create=create)
    Rights(settings, remote=False).wait()
    protocol.wait(settings)
    sys.exit(Bridge(settings).run())


def _wait_for_pubsub(settings: Settings, *, create: bool) -> None:
    """As a bridge that runs waits for it. A SIGTERM ends this at once, as nothing is held."""
    outage = Outage("Pub/Sub does not answer")
    while True:
        try:
            prepare(settings, create=create)
        except PubsubUnavailable as error:
            outage.failed(error)
            time.sleep(AGAIN_S)
        else:
            outage.over()
            return

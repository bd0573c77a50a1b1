"""`lowtide flower`."""

import click

from lowtide.cli.options import examples
from lowtide.config import load_settings
from lowtide.config.flower import ask_for_login_at_metrics, flower_arguments
from lowtide.config.logs import configure_logging
from lowtide.tasks.app import configure


@click.command(
    epilog=examples(
        "lowtide flower",
        "LOWTIDE_FLOWER_ADDRESS=0.0.0.0 LOWTIDE_FLOWER_BASIC_AUTH=user:password lowtide flower",
    )
)
def command() -> None:
    """Run Flower in the foreground on LOWTIDE_FLOWER_ADDRESS and LOWTIDE_FLOWER_PORT.

    Read-only unless LOWTIDE_FLOWER_READ_ONLY=false; asks for a login (LOWTIDE_FLOWER_BASIC_AUTH=user:password)
    unless it binds loopback.
    """
    settings = load_settings()
    configure_logging(settings)
    arguments = flower_arguments(settings)
    ask_for_login_at_metrics()
    configure(settings).start(argv=arguments)

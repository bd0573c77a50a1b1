"""`lowtide flower`."""

import click

from lowtide.cli.options import examples
from lowtide.config import load_settings
from lowtide.config.flower import flower_arguments
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
    arguments = flower_arguments(settings)
    configure(settings).start(argv=arguments)

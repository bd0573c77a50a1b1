"""`lowtide flower`."""

import errno

import click

from lowtide.cli.options import examples
from lowtide.config import Process, SettingsError, load_settings
from lowtide.config.addresses import at
from lowtide.config.flower import ask_for_login_at_metrics, flower_arguments, forget_services
from lowtide.config.process.logs import configure_logging
from lowtide.tasks.app import configure
from lowtide.tasks.redis.rights import Rights

CANNOT_LISTEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


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
    settings = load_settings(Process.FLOWER)
    configure_logging(settings)
    arguments = flower_arguments(settings)
    forget_services()
    Rights(settings).wait()
    ask_for_login_at_metrics()
    try:
        configure(settings).start(argv=arguments)
    except OSError as error:
        if error.errno not in CANNOT_LISTEN:
            raise
        where = at(settings.flower_address, settings.flower_port)
        raise SettingsError(f"LOWTIDE_FLOWER_PORT: can't listen on {where}: {error.strerror}") from error

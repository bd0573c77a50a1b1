"""`serve`: a local server in the foreground, until SIGTERM or SIGINT."""

import signal
import sys
import time
from collections.abc import Callable

import click

from lowtide.local.grpc_server import GrpcServer, ServerFailed

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
LOOK_S = 0.1
"""How soon a signal, or the end of a broken server, ends the process."""


def serve(make: Callable[[], GrpcServer], *, ready: Callable[[str], str]) -> None:
    """Print what `ready` says of the address once it answers, and return on a signal.

    Raises click.ClickException when it cannot listen, SystemExit when it ends by itself.
    """
    # Blocked and looked for, not handled: a handler that sets an Event hangs when it interrupts that Event's own wait
    # while that holds the lock. Before the first thread starts, since threads inherit the mask. Python's `sigtimedwait`
    # makes up a signal when the process is stopped and continued.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with make() as server:
            click.echo(ready(server.address))
            sys.stdout.flush()
            while not (stop := signal.sigpending() & STOP_SIGNALS) and server.is_running:
                time.sleep(LOOK_S)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    if not stop:
        sys.exit(f"{server.name} ended by itself: its traceback is above")

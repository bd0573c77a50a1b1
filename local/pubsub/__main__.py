"""`python -m lowtide.local.pubsub --port N`: the server in the foreground until SIGTERM or SIGINT."""

import signal
import sys
import time

import click

from lowtide.local.pubsub.server import PubsubServer, ServerFailed

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
LOOK_S = 0.1
"""How soon a signal, or the end of a broken server, ends the process."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8085, show_default=True, help="Port; 0 picks a free one."
)
def main(host: str, port: int) -> None:
    """Serve Pub/Sub on this machine. Messages live in memory and end with the process."""
    # Blocked and looked for, not handled: a handler that sets an Event hangs when it interrupts that Event's own wait
    # while that holds the lock. Before the first thread starts, since threads inherit the mask. Python's `sigtimedwait`
    # makes up a signal when the process is stopped and continued.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with PubsubServer(host=host, port=port) as server:
            click.echo(f"Pub/Sub is ready: export PUBSUB_EMULATOR_HOST={server.address}")
            sys.stdout.flush()
            while not (stop := signal.sigpending() & STOP_SIGNALS) and server.is_running:
                time.sleep(LOOK_S)
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    if not stop:
        sys.exit("Pub/Sub ended by itself: its traceback is above")


if __name__ == "__main__":
    main()

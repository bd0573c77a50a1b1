"""`python -m lowtide.local.pubsub --port N`: the server in the foreground until SIGTERM or SIGINT."""

import click

from lowtide.local.foreground import serve
from lowtide.local.pubsub.server import PubsubServer


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8085, show_default=True, help="Port; 0 picks a free one."
)
def main(host: str, port: int) -> None:
    """Serve Pub/Sub on this machine. Messages live in memory and end with the process."""
    serve(
        lambda: PubsubServer(host=host, port=port),
        ready=lambda address: f"Pub/Sub is ready: export PUBSUB_EMULATOR_HOST={address}",
    )


if __name__ == "__main__":
    main()

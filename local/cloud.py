"""`python -m lowtide.local.cloud --port N`: Google Cloud on one port, in the foreground until SIGTERM or SIGINT."""

import click

from lowtide.local.foreground import serve
from lowtide.local.monitoring.server import MonitoringServer
from lowtide.local.pubsub.server import PubsubService


class CloudServer(MonitoringServer):
    """Pub/Sub and Cloud Monitoring on one port. What Pub/Sub holds is what Monitoring says of it."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        pubsub = PubsubService()
        super().__init__(pubsub, name="Google Cloud", host=host, port=port, undelivered=pubsub.undelivered)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8085, show_default=True, help="Port; 0 picks a free one."
)
@click.option("--pubsub/--no-pubsub", default=True, show_default=True, help="Serve Pub/Sub beside Cloud Monitoring.")
def main(host: str, port: int, pubsub: bool) -> None:
    """Serve Pub/Sub and Cloud Monitoring on this machine. All of it lives in memory and ends with the process."""
    if pubsub:
        serve(
            lambda: CloudServer(host=host, port=port),
            ready=lambda address: (
                f"Pub/Sub and Cloud Monitoring are ready on {address}: export PUBSUB_EMULATOR_HOST={address}"
            ),
        )
    else:
        serve(
            lambda: MonitoringServer(host=host, port=port),
            ready=lambda address: f"Cloud Monitoring is ready on {address}",
        )


if __name__ == "__main__":
    main()

"""`python -m lowtide.local.cloud --port N`: Google Cloud on one port, in the foreground until SIGTERM or SIGINT."""

import time
from collections.abc import Callable

import click
import grpc

from lowtide.local.foreground import serve
from lowtide.local.grpc_server import GrpcServer
from lowtide.local.monitoring.server import MonitoringServer, MonitoringService
from lowtide.local.pubsub.server import PubsubService


class CloudServer(GrpcServer):
    """Pub/Sub and Cloud Monitoring on one port. What Pub/Sub holds is what Monitoring says of it."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, clock: Callable[[], float] = time.time) -> None:
        pubsub = PubsubService()
        self._monitoring = MonitoringService(undelivered=pubsub.all_undelivered, clock=clock)
        super().__init__(pubsub, self._monitoring, name="Google Cloud", host=host, port=port)

    def refuse(self, code: grpc.StatusCode, text: str) -> None:
        """Refuse every write to Monitoring, as a service in trouble does, until `accept`."""
        self._monitoring.refuse(code, text)

    def accept(self) -> None:
        """Take writes to Monitoring again."""
        self._monitoring.accept()


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

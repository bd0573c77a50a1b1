"""`PubsubServer`: Pub/Sub alone on a port; `PubsubService`: Pub/Sub as a part of any server."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lowtide.local.grpc_server import GrpcServer
from lowtide.local.pubsub.desk import Desk
from lowtide.local.pubsub.publisher import Publisher
from lowtide.local.pubsub.state import PubsubState
from lowtide.local.pubsub.subscriber import Subscriber


class PubsubService:
    """Pub/Sub on a server's thread."""

    def __init__(self) -> None:
        # Microseconds since 1970: a restarted server never gives out an id again, which deduplication relies on.
        self._state = PubsubState(first_message_id=time.time_ns() // 1000)
        self._desk = Desk(self._state)

    def handlers(self) -> Sequence[Any]:
        """Of google.pubsub.v1."""
        return Publisher(self._desk).handler(), Subscriber(self._desk).handler()

    def tick(self) -> None:
        """Let leases, backoffs and retention end."""
        self._desk.tick()

    def undelivered(self) -> Mapping[str, int]:
        """Messages that nobody has acknowledged, by the full name of their subscription."""
        return self._state.undelivered()


class PubsubServer(GrpcServer):
    """Listens on `host`:`port` from `start` to `stop`. `port=0` picks a free one, which `address` tells."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(PubsubService(), name="Pub/Sub", host=host, port=port)

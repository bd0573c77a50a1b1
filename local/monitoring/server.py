"""`MonitoringServer`: Cloud Monitoring alone on a port; `MonitoringService`: the same as a part of any server."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from lowtide.local.grpc_server import GrpcServer
from lowtide.local.monitoring.service import MetricService
from lowtide.local.monitoring.state import MonitoringState

SAMPLE_S = 1.0
"""How often Pub/Sub's own metric gets a point. The real one: each 60 s, readable up to 120 s later."""

Undelivered = Callable[[], Mapping[str, int]]
"""Full name of a subscription → messages that nobody has acknowledged. Called on the server's thread."""


class MonitoringService:
    """Cloud Monitoring on a server's thread. `clock`: seconds since 1970."""

    def __init__(self, *, undelivered: Undelivered = dict, clock: Callable[[], float] = time.time) -> None:
        self._state = MonitoringState()
        self._service = MetricService(self._state, clock)
        self._undelivered = undelivered
        self._clock = clock
        self._sampled_s = float("-inf")

    def handlers(self) -> Sequence[Any]:
        """Of google.monitoring.v3."""
        return (self._service.handler(),)

    def tick(self) -> None:
        """Sample Pub/Sub's own metric when it is time."""
        now_s = self._clock()
        if not 0 <= now_s - self._sampled_s < SAMPLE_S:  # below 0: the clock was set back
            self._sampled_s = now_s
            self._state.sample(self._undelivered(), now_s=now_s)

    def refuse(self, code: grpc.StatusCode, text: str) -> None:
        """Refuse every write, as a service in trouble does, until `accept`. For any thread."""
        self._service.refusal = (code, text)

    def accept(self) -> None:
        """Take writes again. For any thread."""
        self._service.refusal = None


class MonitoringServer(GrpcServer):
    """Listens on `host`:`port` from `start` to `stop`. `port=0` picks a free one, which `address` tells."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        undelivered: Undelivered = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._monitoring = MonitoringService(undelivered=undelivered, clock=clock)
        super().__init__(self._monitoring, name="Cloud Monitoring", host=host, port=port)

    def refuse(self, code: grpc.StatusCode, text: str) -> None:
        """Refuse every write, as a service in trouble does, until `accept`."""
        self._monitoring.refuse(code, text)

    def accept(self) -> None:
        """Take writes again."""
        self._monitoring.accept()

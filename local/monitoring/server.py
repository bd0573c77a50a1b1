"""`MonitoringServer`: Cloud Monitoring on a port, alone or beside other services."""

import time
from collections.abc import Callable

import grpc

from lowtide.local.grpc_server import GrpcServer, Service
from lowtide.local.monitoring.service import MetricService, Undelivered


class MonitoringServer(GrpcServer):
    """Listens on `host`:`port` from `start` to `stop`. `port=0` picks a free one, which `address` tells."""

    def __init__(
        self,
        *beside: Service,
        name: str = "Cloud Monitoring",
        host: str = "127.0.0.1",
        port: int = 0,
        undelivered: Undelivered = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = MetricService(undelivered=undelivered, clock=clock)
        super().__init__(*beside, self._metrics, name=name, host=host, port=port)

    def refuse(self, code: grpc.StatusCode, text: str) -> None:
        """Refuse every write, as a service in trouble does, until `accept`."""
        self._metrics.refusal = (code, text)

    def accept(self) -> None:
        """Take writes again."""
        self._metrics.refusal = None

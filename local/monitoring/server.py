"""`MonitoringServer`: the life of the server."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from lowtide.local.monitoring.service import MetricService
from lowtide.local.monitoring.state import MonitoringState, Undelivered

THREADS = 4


class ServerFailed(Exception):
    """Raised when the server cannot listen. The message names the address."""


class MonitoringServer:
    """Listens on `host`:`port` from `start` to `stop`. `port=0` picks a free one, which `address` tells."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        undelivered: Undelivered = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = MetricService(MonitoringState(undelivered), clock)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._service.handler(),))
        self._host = host
        self._port = port

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self._host}:{self._port}"

    def start(self) -> None:
        """Return when it answers. Raises ServerFailed."""
        try:
            self._port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise ServerFailed(f"Cloud Monitoring cannot listen on {self.address}: {error}") from error
        self._server.start()

    def stop(self) -> None:
        """Cancel the calls in progress. Idempotent."""
        self._server.stop(grace=None).wait()

    def refuse(self, code: grpc.StatusCode, text: str) -> None:
        """Refuse every write, as a service in trouble does, until `accept`."""
        self._service.refusal = (code, text)

    def accept(self) -> None:
        """Take writes again."""
        self._service.refusal = None

    def __enter__(self) -> "MonitoringServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

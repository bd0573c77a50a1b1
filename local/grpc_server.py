"""`GrpcServer`: the life of a local server: an asyncio loop in a thread of its own, on which all of its state lives."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, Self

import grpc

from lowtide.config.addresses import at

TICK_S = 0.05
"""How late a service may do what has become due. A tick over idle subscriptions costs microseconds."""

MESSAGE_MAX_BYTES = 32 * 1024 * 1024
"""What gRPC lets in: above the services' own limits, so that their own answer explains the refusal."""


class ServerFailed(Exception):
    """Raised when the server cannot listen. The message names what and where."""


class Service(Protocol):
    """What a server serves. Both are called on the server's thread, and so are the handlers."""

    def handlers(self) -> Sequence[Any]:
        """Generic gRPC handlers."""

    def tick(self) -> None:
        """Do what has become due."""


class GrpcServer:
    """Listens on `host`:`port` from `start` to `stop`. `port=0` picks a free one, which `address` tells.

    `name` is for errors. The port is open to whoever reaches `host`: no TLS, no credentials.
    """

    def __init__(self, *services: Service, name: str, host: str, port: int) -> None:
        self._services = services
        self.name = name
        self._host = host
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="lowtide-server", daemon=True)

    @property
    def address(self) -> str:
        """`host:port` or `[address]:port`, as PUBSUB_EMULATOR_HOST takes it."""
        return at(self._host, self._port)

    @property
    def is_running(self) -> bool:
        """From `start` until `stop`, or until a defect of ours ended it."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Return when it answers. Raises ServerFailed."""
        self._thread.start()
        self._ready.wait()
        if self._failure:
            self._thread.join()
            raise ServerFailed(f"{self.name} cannot listen on {self.address}: {self._failure}") from self._failure

    def stop(self) -> None:
        """Cancel the calls in progress and end the thread. Idempotent."""
        if self.is_running:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except (OSError, RuntimeError) as error:  # grpc says RuntimeError when it cannot bind
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        server = self._grpc_server()
        self._port = server.add_insecure_port(self.address)
        await server.start()
        self._tick()
        self._ready.set()
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_S)
            self._tick()
        await server.stop(grace=None)

    def _tick(self) -> None:
        for service in self._services:
            service.tick()

    def _grpc_server(self) -> Any:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
                ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a helper
            ]
        )
        for service in self._services:
            server.add_generic_rpc_handlers(tuple(service.handlers()))
        return server

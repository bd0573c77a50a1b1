"""`PubsubServer`: the life of the server, in a thread of its own."""

import asyncio
import threading
import time
from typing import Any

import grpc

from lowtide.local.pubsub.publisher import Publisher
from lowtide.local.pubsub.state import PubsubState
from lowtide.local.pubsub.subscriber import Subscriber
from lowtide.local.pubsub.wire import Desk

TICK_S = 0.05
"""How late an expired lease may come back. A tick over idle subscriptions costs microseconds."""

MESSAGE_MAX_BYTES = 32 * 1024 * 1024
"""What gRPC lets in: above our own limit, so that our own answer explains the refusal."""


class ServerFailed(Exception):
    """Raised when the server cannot listen. The message names the address."""


class PubsubServer:
    """Listens on `host`:`port` from `start` to `stop`. `port=0` picks a free one, which `address` tells."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        # Microseconds since 1970: a restarted server never gives out an id again, which deduplication relies on.
        self._state = PubsubState(first_message_id=time.time_ns() // 1000)
        self._host = host
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="lowtide-pubsub", daemon=True)

    @property
    def address(self) -> str:
        """`host:port`, as PUBSUB_EMULATOR_HOST takes it."""
        return f"{self._host}:{self._port}"

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
            raise ServerFailed(f"Pub/Sub cannot listen on {self.address}: {self._failure}") from self._failure

    def stop(self) -> None:
        """Cancel the calls in progress and end the thread. Idempotent."""
        if self.is_running:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def undelivered(self, subscription: str) -> int:
        """Messages that nobody has acknowledged. For any thread. Raises NotFound, ServerFailed when it does not run."""
        if not self.is_running:
            raise ServerFailed("Pub/Sub does not run")
        return asyncio.run_coroutine_threadsafe(self._undelivered(subscription), self._loop).result()

    def __enter__(self) -> "PubsubServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _undelivered(self, subscription: str) -> int:
        return self._state.undelivered(subscription)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except (OSError, RuntimeError) as error:  # grpc says RuntimeError when it cannot bind
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        desk = Desk(self._state)
        server = self._grpc_server(desk)
        self._port = server.add_insecure_port(self.address)
        await server.start()
        self._ready.set()
        while not self._stopping.is_set():
            desk.tick()
            await _wait(self._stopping, TICK_S)
        await server.stop(grace=None)

    def _grpc_server(self, desk: Desk) -> Any:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
                ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a helper
            ]
        )
        server.add_generic_rpc_handlers((Publisher(desk).handler(), Subscriber(desk).handler()))
        return server


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return

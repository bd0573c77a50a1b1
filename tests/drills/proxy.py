"""A TCP proxy that does to a connection what networks do: cuts it, slows it, or forgets it without a word."""

import asyncio
import socket
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

READ_BYTES = 1 << 16


@dataclass(slots=True, eq=False)
class Link:
    """One connection: both sides, and whether its bytes are swallowed."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    swallowed: bool = False


class TcpProxy:
    """Listens on `port` and passes on to `target_port`. A thread of its own; its life is `start` → … → `stop`."""

    def __init__(self, target_port: int) -> None:
        # Held from now on: of a port that is only free, another process may have made its own before we listen.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.delay_s = 0.0
        self._target_port = target_port
        self._links: set[Link] = set()
        self._accepted: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._call(self._listen())

    def cut(self) -> None:
        """Close every connection, both ways."""
        self._call(self._cut())

    def swallow(self) -> None:
        """From now on the present connections carry nothing and stay open at both ends: half-open. New ones work."""
        self._call(self._swallow())

    def stop(self) -> None:
        if not self._thread.is_alive():
            self._socket.close()
            return
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._socket)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        if self._accepted:
            await asyncio.wait(self._accepted, timeout=5)

    async def _cut(self) -> None:
        for link in list(self._links):
            for side in (link.client, link.server):
                side.transport.abort()

    async def _swallow(self) -> None:
        for link in self._links:
            link.swallowed = True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target, server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(client=writer, server=server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(link, reader, server))
                group.create_task(self._pass(link, target, writer))
        finally:
            self._links.discard(link)

    async def _pass(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(READ_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not link.swallowed:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        # The end of one side is the end of the other, but a swallowed end is seen by nobody.
        if not link.swallowed:
            writer.close()

"""`Bells`: how waiting pulls learn that their subscription has something for them."""

import asyncio
from collections.abc import Iterable


class Bells:
    """One bell per subscription. One event loop, so that a look and the wait after it cannot miss a ring."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def ring(self, names: Iterable[str]) -> None:
        """Wake all who wait at these subscriptions."""
        for name in names:
            for future in self._waiting.pop(name, ()):
                if not future.done():
                    future.set_result(None)

    async def wait(self, name: str, *, timeout_s: float | None) -> None:
        """Return at the next ring, or when the time is up."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, set()).add(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            pass
        finally:
            if waiting := self._waiting.get(name):
                waiting.discard(future)
                if not waiting:
                    del self._waiting[name]

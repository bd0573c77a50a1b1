"""A worker's result backend. It waits for Redis until a drain ends; Celery's own gives up after a while, and then
acknowledges a task whose outcome nobody will ever see.
"""

# mypy: disallow-untyped-calls=False
# Celery has no types.

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from celery import Celery
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError, Reject
from redis import RedisError

from lowtide.config.process.outage import Outage
from lowtide.tasks.redis.backend import SharedBackend
from lowtide.tasks.redis.scripts import lua
from lowtide.tasks.redis.trouble import told

AGAIN_S = 1.0
STRING_MAX_BYTES = 512 * 1024 * 1024
"""Of Redis (proto-max-bulk-len), unless it is configured otherwise."""

Thing = TypeVar("Thing")


class Patience:
    """How long the threads of this process wait for Redis: until it is there, or the drain is over."""

    def __init__(self) -> None:
        self._outage = Outage("results wait: Redis can't be used", why=told)
        self._until_s = math.inf

    def end(self, *, after_s: float) -> None:
        """Nobody waits for longer than that any more."""
        self._until_s = time.monotonic() + after_s

    def ask(self, call: Callable[[], Thing]) -> Thing:
        """What `call` gives, as soon as Redis lets it. Raises Reject when patience ends: the task is then neither done
        nor failed, and whoever has it next does it again.
        """
        while True:
            try:
                given = call()
            except RedisError as error:
                self._outage.failed(error)
                if time.monotonic() >= self._until_s:
                    raise Reject(f"Redis can't be used: {error}", requeue=True) from error
                time.sleep(AGAIN_S)
            else:
                self._outage.over()
                return given


class ResultBackend(SharedBackend):
    """`install` makes it the worker's."""

    patience = Patience()

    def get(self, key: str) -> Any:
        """As Celery's: a task that was delivered again looks whether it has a result."""
        return self.patience.ask(lambda: RedisBackend.get(self, key))

    def set(self, key: str, value: Any, expires: int | None = None, **_: Any) -> None:
        """Store a result. Raises BackendStoreError when it is larger than Redis allows."""
        if len(value) > STRING_MAX_BYTES:
            raise BackendStoreError("value too large for Redis backend")
        expires_s = (self.expires if expires is None else expires) or 0
        self.patience.ask(lambda: self._store(keys=[key], args=[value, expires_s]))

    @cached_property
    def _store(self) -> Any:
        return self.client.register_script(lua("lowtide.tasks.chunks", "results"))


def install(app: Celery) -> Patience:
    """Make every thread of this process store its results so. Returns the patience that a drain ends."""
    ours = f"{__name__}:{ResultBackend.__name__}"
    app.loader.override_backends = {"redis": ours, "rediss": ours}
    return ResultBackend.patience

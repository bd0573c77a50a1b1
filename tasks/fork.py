"""What a process has of the Celery app alone, and no child may inherit: sockets, and locks that another thread held.

Parent and child would read each other's results from one subscription, and each would miss its own.
"""

# mypy: disallow-untyped-calls=False
# Celery and kombu have no types.

import atexit
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.backends.asynchronous import AsyncBackendMixin
from kombu import pools
from kombu.connection import Connection
from kombu.transport.redis import Channel
from kombu.utils.objects import cached_property


def in_each_child(call: Callable[[], None]) -> None:
    """Run `call` in every process that is forked from this one, before anything else of ours."""
    if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
        os.register_at_fork(after_in_child=call)


class Lock:
    """Reentrant, and free in a child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._renew()
        in_each_child(self._renew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()


def separate(app: Celery) -> None:
    """Let processes forked from this one have connections of their own, and its end be quiet."""
    in_each_child(lambda: _start_afresh(app))
    # What is collected after the interpreter began to end would still unsubscribe, and print a traceback.
    atexit.register(lambda: _forget_pending(app))


def _start_afresh(app: Any) -> None:
    _unlock(type(app), AMQP, type(app._backend), Connection, Channel)
    if app._pool is not None:
        # What another thread had borrowed would never come back.
        connection = app.connection_for_write()
        for group in (pools.connections, pools.producers):
            with contextlib.suppress(KeyError):
                del group[connection]
    app._after_fork()
    if _listens(app._backend):
        app._backend.result_consumer._after_fork()  # closes this end of the sockets, and says nothing to Redis
    _forget_pending(app)


def _listens(backend: Any) -> bool:
    """Redis does. An application may have another one in its tests, or none so far."""
    return isinstance(backend, AsyncBackendMixin)


def _unlock(*kinds: type) -> None:
    """Another thread of the parent may have held the lock of a cached property, which is one for all objects."""
    for found in (found for kind in kinds for base in kind.__mro__ for found in vars(base).values()):
        if isinstance(found, cached_property) and hasattr(found, "lock"):
            found.lock = threading.RLock()


def _forget_pending(app: Any) -> None:
    """Nobody waits for a result: a `get` subscribes anew."""
    backend = app._backend
    if not _listens(backend):
        return
    waiting = backend._pending_results
    backend.result_consumer = backend.ResultConsumer(backend, app, backend.accept, waiting, backend._pending_messages)
    for results in waiting:
        results.clear()

"""Wakes workers for publishers that push no tokens: other Celery apps, and who gives tasks back.

One process of a fleet does, the one whose sweeper leads. Redis tells it by `CLIENT TRACKING` which lists changed: their
names, no payload, and nothing while nothing changes. A look a change, 66 a second at most; each is O(models).
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any

from redis import Redis, RedisError, ResponseError

from lowtide.tasks.queues import PREFIX, lists_of, worker_queues
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.scripts import lua
from lowtide.tasks.waking.tokens import tokens_lua

log = logging.getLogger(__name__)

OWN_FIRST_S = 0.005
"""What our publishers pushed has a token, and is taken by then."""
PAUSE_S = 0.010
"""After a look: the next may come 15 ms after the last."""
UNTOLD_S = 0.1
"""From look to look, where Redis doesn't tell."""
SILENT_S = 30.0
"""After so long without a word Redis is asked for one, and after as long again it is taken for gone."""
AGAIN_S = 1.0
CHUNK_BYTES = 64 * 1024


class Untold(Exception):
    """Raised when Redis refuses to tell what changes."""


class QueueWatch:
    """Has a thread and a connection of its own from `start` to `stop`, which one thread calls again and again."""

    def __init__(self, redis: Redis, keys: Keys, models: Sequence[str], *, untold_s: float = UNTOLD_S) -> None:
        self._redis = redis
        self._keys = keys
        queues = [worker_queues([model]) for model in models]
        lists = [[keys.queue(each) for queue in of_model for each in lists_of(queue)] for of_model in queues]
        self._lists = len(lists[0]) if lists else 0
        self._looked_at = [key for model, own in zip(models, lists, strict=True) for key in (keys.wake(model), *own)]
        self._announce = redis.register_script(tokens_lua() + lua(__package__, "announce"))
        self._untold_s = untold_s
        self._connection: Any = None  # redis-py's has no types
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch from now on. Idempotent."""
        if self._thread is None and self._looked_at:
            self._stopped = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stopped,), name="queue-watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer. Idempotent."""
        self._stopped.set()
        if socket := self._connection and self._connection._sock:
            with suppress(OSError):
                socket.shutdown(SHUT_RDWR)  # the thread waits for a byte
        if self._thread:
            self._thread.join(AGAIN_S)
            self._thread = None

    def look(self) -> None:
        """Wake who is needed. Raises RedisError."""
        self._announce(keys=self._looked_at, args=[self._lists])

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            try:
                self._watch(stopped)
            except Untold as error:
                log.info("Redis doesn't tell what changes: looking ten times a second instead (%s)", error)
                self._look_again_and_again(stopped)
            except (RedisError, OSError) as error:
                log.debug("the watch for tasks of stock publishers begins anew: %s", error)
                stopped.wait(AGAIN_S)
            except Exception:  # outermost loop: whoever isn't woken looks for itself
                log.exception("the watch for tasks of stock publishers failed")
                stopped.wait(AGAIN_S)

    def _watch(self, stopped: threading.Event) -> None:
        try:
            self._connection = connection = self._connect()
        except ResponseError as error:
            raise Untold(error) from error
        try:
            connection._sock.settimeout(SILENT_S)
            while not stopped.is_set():
                self.look()
                stopped.wait(PAUSE_S)
                self._wait_for_change(connection)
                stopped.wait(OWN_FIRST_S)
        finally:
            connection.disconnect()

    def _wait_for_change(self, connection: Any) -> None:
        """Until a byte comes, whatever it says. A Redis that has nothing to tell is asked whether it is there: that
        answer is one, too. Raises OSError, RedisError.
        """
        for _ in range(2):
            with suppress(TimeoutError):
                if connection._sock.recv(CHUNK_BYTES):
                    return
                raise RedisError("Redis closed the connection")
            connection.send_command("PING", check_health=False)
        raise RedisError("Redis doesn't answer")

    def _connect(self) -> Any:
        """A connection that is told of changes. Raises ResponseError where Redis refuses, and other RedisErrors."""
        pool = self._redis.connection_pool
        options = {**pool.connection_kwargs, "protocol": 3, "health_check_interval": 0}
        connection: Any = pool.connection_class(**options)
        try:
            connection.connect()
            # Who is subscribed to anything has a bounded buffer in Redis, also if this process stands still. Redis
            # answers it by a push, which redis-py reads over; what refuses either is read.
            connection.send_command("SUBSCRIBE", self._keys.result("nobody"))
            connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._keys.queue(PREFIX))
            connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _look_again_and_again(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._untold_s):
            with suppress(RedisError):
                self.look()

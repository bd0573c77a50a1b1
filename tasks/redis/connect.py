"""Clients of the fleet's Redis, and how many connections each may have. Its URL is read by `lowtide.config.redis_url`.
No client repeats a command: a take whose answer was lost may have taken tasks.
"""

from collections.abc import Mapping
from typing import Any, cast

from redis import BlockingConnectionPool, Redis

from lowtide.config import Settings
from lowtide.config.redis_url import RedisAddress

ANSWER_S = 5.0
"""How long a Redis that accepts and says nothing may hold up a thread that has a connection."""
BRIEF_S = 2.0
"""The same for a question that may stay unanswered."""
MOST = 8
"""Connections of one client. A round trip takes about a millisecond: threads of Python can't fill so many."""


class Pool(BlockingConnectionPool):
    """Connections that threads share. A thread that finds none free waits; when `free_within` is over, it gets the
    error that a Redis which does not answer gives.
    """

    newest: object = None
    """Another object after each time that a connection was made: while it stays, no server that began since answers."""

    def make_connection(self) -> Any:
        """redis-py's own, which tells when it connects, also again."""
        made = super().make_connection()  # type: ignore[no-untyped-call]  # redis-py gives it none
        made.register_connect_callback(self._connected)
        return made

    def release(self, connection: Any) -> None:
        """redis-py's own; but one from before the pool was emptied, by a fork or a subscription that was lost, has no
        place in it any more.
        """
        self._checkpid()
        if connection in self._connections:
            super().release(connection)  # type: ignore[no-untyped-call]
        else:
            connection.disconnect()

    def _connected(self, connection: Any) -> None:
        self.newest = object()  # not a count: threads that add one at the same time may add one together


def newest_connection(redis: Redis) -> object:
    """Another object after each time that a client of `connect` connected: a restart breaks every connection."""
    return cast(Pool, redis.connection_pool).newest


def text_of(answer: bytes | str) -> str:
    """A name or a text that Redis holds, whoever wrote it: bytes, unless the client decodes."""
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def free_within(timeout_s: float) -> float:
    """How long to wait for a connection that others hold. One whose Redis does not answer is held for as long as it
    takes to connect, and to ask: who waited for it still has a turn.
    """
    return 2 * timeout_s


def connect(settings: Settings, *, timeout_s: float = ANSWER_S, most: int = MOST) -> Redis:
    """A client of the fleet's Redis, which answers in bytes. Connects on first use, `most` times at once."""
    address = RedisAddress.of(settings.redis_url)
    options = {"health_check_interval": 10, "socket_keepalive": True}
    return _client(address.url, timeout_s, most, {**options, **(address.tls or {})})


def connect_briefly(conf: Any) -> Redis:
    """A client for questions that may stay unanswered, of the Redis that Celery's configuration names."""
    return _client(conf.broker_url, BRIEF_S, 2, conf.broker_use_ssl or {})


def _client(url: str, timeout_s: float, most: int, options: Mapping[str, Any]) -> Redis:
    limits = {"max_connections": most, "timeout": free_within(timeout_s), "socket_timeout": timeout_s}
    return Redis.from_pool(Pool.from_url(url, **limits, **options))

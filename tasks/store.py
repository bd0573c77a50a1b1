"""Clients of the fleet's Redis. What its URL says is read once: `lowtide.config.redis_url`."""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lowtide.config import Settings
from lowtide.config.redis_url import RedisAddress

ANSWER_S = 5.0
"""How long a Redis that accepts and says nothing may hold up a thread."""
BRIEF_S = 2.0
"""The same for a question that may stay unanswered."""


def connect(settings: Settings) -> Redis:
    """A client of the fleet's Redis, which answers in bytes. Connects on first use."""
    return _client(settings, socket_timeout=ANSWER_S)


def connect_once(settings: Settings, *, timeout_s: float = ANSWER_S) -> Redis:
    """A client that never repeats a command: a take whose answer was lost has taken."""
    return _client(settings, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))


def connect_briefly(conf: Any) -> Redis:
    """A client for questions that may stay unanswered, of the Redis that Celery's configuration names."""
    tls = conf.broker_use_ssl or {}
    return Redis.from_url(conf.broker_url, socket_timeout=BRIEF_S, retry=Retry(NoBackoff(), 0), **tls)


def _client(settings: Settings, **options: Any) -> Redis:
    address = RedisAddress.of(settings.redis_url)
    return Redis.from_url(
        address.url, health_check_interval=10, socket_keepalive=True, **(address.tls or {}), **options
    )

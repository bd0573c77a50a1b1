"""The Redis client of our own keys, and how Celery, kombu and Flower are told what the URL says of TLS."""

# mypy: disallow-untyped-calls=False
# Kombu has no types.

import ssl
from typing import Any

from kombu.utils.url import parse_url
from redis import Redis

from lowtide.config import Settings

ANSWER_S = 5.0
"""How long a Redis that accepts and says nothing may hold up a thread."""


def connect(settings: Settings) -> Redis:
    """A client of the fleet's Redis, which answers in bytes. Connects on first use."""
    return Redis.from_url(settings.redis_url, health_check_interval=10, socket_keepalive=True, socket_timeout=ANSWER_S)


def tls_options(settings: Settings) -> dict[str, Any] | None:
    """The `ssl_…` parameters of a `rediss://` URL, None for `redis://`. Certificates are checked unless it says else.

    Celery's result backend wants to be told so, and Flower reads nothing from the URL.
    """
    if not settings.redis_url.startswith("rediss://"):
        return None
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, **parse_url(settings.redis_url).get("ssl", {})}

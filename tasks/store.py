"""The Redis client of our own keys. Celery and kombu keep theirs."""

from redis import Redis

from lowtide.config import Settings


def connect(settings: Settings) -> Redis:
    """A client of the fleet's Redis, which answers in bytes. Connects on first use."""
    return Redis.from_url(settings.redis_url, health_check_interval=10, socket_keepalive=True, socket_timeout=10)

"""Celery's Redis backend, with few connections."""

# mypy: disallow-untyped-calls=False
# Celery has no types.

from typing import Any

from celery.backends.redis import RedisBackend

from lowtide.tasks.redis.connect import MOST, Pool, free_within


class SharedBackend(RedisBackend):
    """Shared by all threads of a process. Celery's own pool opens a connection for each, or raises."""

    def _get_pool(self, **params: Any) -> Pool:
        return Pool(**{**params, "max_connections": MOST, "timeout": free_within(params["socket_timeout"])})

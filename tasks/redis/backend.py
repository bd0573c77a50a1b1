"""Celery's Redis backend, with few connections."""

# mypy: disallow-untyped-calls=False
# Celery has no types.

from typing import Any

from celery.backends.redis import RedisBackend

from lowtide.tasks.redis.connect import ANSWER_S, MOST, Pool, free_within


class SharedBackend(RedisBackend):
    """Celery's own, for all threads of a process. Its pool would have a connection for each of them, or an error."""

    def _get_pool(self, **params: Any) -> Pool:
        return Pool(**{**params, "max_connections": MOST, "timeout": free_within(ANSWER_S)})

"""Celery's consumer, which pauses before it connects again when Redis has refused a command, and tells whoever sent a
malformed task that it was refused.
"""

# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False
# Celery has no types.

import logging
import warnings
from typing import Any, ClassVar

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from redis import ResponseError

from lowtide.tasks.redis.rights import Rights
from lowtide.tasks.redis.trouble import trouble_of
from lowtide.workers.consumer.receive import fail

log = logging.getLogger(__name__)

NO_ROOM = "max number of clients"
"""So says a Redis that has no room for one more connection; redis-py takes it for a connection that broke."""


class Consumer(consumer.Consumer):
    """`worker_consumer` is a subclass with the rights: Celery instantiates it itself."""

    rights: ClassVar[Rights]

    def on_connection_error_after_connected(self, exc: Exception) -> Any:
        """Celery's own, which closes the connection, and a pause."""
        with warnings.catch_warnings():
            # It would tell of a setting that we have chosen.
            warnings.simplefilter("ignore", category=CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        if isinstance(exc, ResponseError) or NO_ROOM in str(exc):
            log.warning("Redis refuses what a worker needs: %s", trouble_of(exc))
            self.rights.wait(maybe_shutdown, refused=True)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Celery's own, which drops it."""
        super().on_invalid_task(body, message, exc)
        fail(self.app, message, body, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Celery's own, which drops it."""
        super().on_decode_error(message, exc)
        fail(self.app, message, None, exc)

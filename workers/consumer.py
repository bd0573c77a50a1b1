"""Celery's consumer, which starts anew when Redis refuses something; not at once if it is a right that is missing."""

from typing import Any

from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from redis.exceptions import NoPermissionError

from lowtide.tasks.rights import Rights


def class_of(rights: Rights) -> type[consumer.Consumer]:
    """For `worker_consumer`, which Celery instantiates itself."""

    class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery has no types
        def on_connection_error_after_connected(self, exc: Exception) -> Any:
            """Celery's own, which closes the connection, and a pause."""
            super().on_connection_error_after_connected(exc)
            if isinstance(exc, NoPermissionError):
                rights.wait(maybe_shutdown, refused=True)

    return Consumer

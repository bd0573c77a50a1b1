"""Celery's consumer, which starts anew when Redis refuses something; not at once if it is a right that is missing."""

import warnings
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from redis.exceptions import NoPermissionError

from lowtide.tasks.rights import Rights


def class_of(rights: Rights) -> type[consumer.Consumer]:
    """For `worker_consumer`, which Celery instantiates itself."""
    # With every connection that breaks it would tell of a setting that we have chosen.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1", category=CPendingDeprecationWarning)

    class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery has no types
        def on_connection_error_after_connected(self, exc: Exception) -> Any:
            """Celery's own, which closes the connection, and a pause."""
            super().on_connection_error_after_connected(exc)
            if isinstance(exc, NoPermissionError):
                rights.wait(maybe_shutdown, refused=True)

    return Consumer

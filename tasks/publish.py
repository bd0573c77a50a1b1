"""Kombu's batch of published tasks, with what we write beside them: all of it in one MULTI, or none."""

# mypy: disable-error-code="misc, no-untyped-call"
# Kombu has no types.

from typing import Any

from kombu.transport.redis import Channel, PublishBatch

from lowtide.tasks.keys import BLOB_S, Keys

AT_ONCE = 500
AT_ONCE_BYTES = 4 * 1024 * 1024
"""Of content: Redis holds it twice until the EXEC."""


class Publication(PublishBatch):
    """Put it into a `producer.batch` before the first task. From one thread, used once."""

    @staticmethod
    def suits(channel: Any) -> bool:
        """False for other brokers than Redis, and for one whose commands may be repeated: nothing is batched there."""
        return isinstance(channel, Channel) and channel.supports_batch_publish

    def __init__(self, channel: Any) -> None:
        super().__init__(channel, max_size=AT_ONCE)
        self.pipeline.transaction = True
        self._beside: list[tuple[Any, ...]] = []
        self._bytes = 0

    def beside(self, task_id: str, blob: bytes | None) -> None:
        """Content, if there is any, of the task that is published next."""
        if blob is None:
            return
        self._beside = [("set", Keys("").blob(task_id), blob, BLOB_S)]  # the pipeline adds the prefix
        self._bytes += len(blob)

    def add(self, name: str, *arguments: Any) -> None:
        """Kombu's: a command of the task that is being published."""
        for command in self._beside:
            super().add(*command)
        self._beside = []
        super().add(name, *arguments)

    def publish(self, message: Any, **options: Any) -> Any:
        """Kombu's."""
        result = super().publish(message, **options)
        if self._bytes >= AT_ONCE_BYTES:
            self.flush()
        return result

    def flush(self) -> None:
        """Kombu's."""
        self._bytes = 0
        super().flush()

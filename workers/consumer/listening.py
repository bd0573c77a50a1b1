"""Whether the worker listens to all queues of its models. Celery's remote control can cancel one (`cancel_consumer`):
the worker would look idle for ever while tasks wait.
"""

# mypy: disable-error-code="misc"
# Celery has no types.

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, bootsteps

log = logging.getLogger(__name__)

LOOK_S = 1.0


class Listening:
    """Which queues are not listened to, and since when. Celery's loop looks, any thread may ask."""

    def __init__(
        self, queues: Sequence[str], *, patience_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`patience_s`: after so long a queue is listened to again. Whoever cancelled it may have had a reason."""
        self._queues = tuple(queues)
        self._patience_s = patience_s
        self._clock = clock
        self._since_s: dict[str, float] = {}

    @property
    def deaf_to(self) -> tuple[str, ...]:
        """Queues that are not listened to now."""
        return tuple(self._since_s)

    def look(self, hears: Callable[[str], bool]) -> list[str]:
        """What is to be listened to again."""
        now_s = self._clock()
        self._since_s = {name: self._since_s.get(name, now_s) for name in self._queues if not hears(name)}
        return [name for name, since_s in self._since_s.items() if now_s - since_s >= self._patience_s]

    def install(self, app: Celery) -> None:
        """Look once a second in every worker of this app, while it consumes."""
        app.steps["consumer"].add(type("Listening", (_Step,), {"listening": self}))


class _Step(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)
    listening: Listening
    timer: Any = None

    def start(self, consumer: Any) -> None:
        self.timer = consumer.timer.call_repeatedly(LOOK_S, self._look, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self.timer:
            self.timer.cancel()

    def _look(self, consumer: Any) -> None:
        for name in self.listening.look(consumer.task_consumer.consuming_from):
            log.warning("listening to %s again: remote control had cancelled it", name)
            consumer.add_task_queue(name)

"""A stop is a drain: SIGTERM closes the engine within its grace, while Celery waits for its tasks.

Celery's warm shutdown stops taking and waits for running tasks without limit; closing the engine is what ends them.
Its soft shutdown crashes a pool of threads.
"""

import threading
from collections.abc import Callable
from typing import Any

from celery import signals


class Drain:
    """A thread that closes the engine at Celery's signal that it shuts down."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)

    def start(self) -> None:
        """Listen from now on."""
        signals.worker_shutting_down.connect(self._on_signal, weak=False)
        self._thread.start()

    @property
    def has_begun(self) -> bool:
        """Whether the signal has come."""
        return self._stopping.is_set()

    def join(self) -> None:
        """Drain, if it has not begun, and wait for its end: Celery may also have been stopped by remote control."""
        signals.worker_shutting_down.disconnect(self._on_signal)
        self._stopping.set()
        self._thread.join()

    def _on_signal(self, **_: Any) -> None:
        # Inside the signal handler: it sets a flag, nothing else.
        self._stopping.set()

    def _run(self) -> None:
        self._stopping.wait()
        self._close()

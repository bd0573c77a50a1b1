"""Where decode threads leave items and devices take batches: the batcher behind a lock, bounded."""

import math
import threading
import time
from collections.abc import Callable

from lowtide.workers.engine.batch import Batch, Batcher, Terms
from lowtide.workers.engine.job import Ready


class ReadyPool:
    """Bounded, because decoded items are large: whoever decodes waits until a device has taken some."""

    def __init__(self, *, capacity: int, wait_s: float = 0.0) -> None:
        self._capacity = capacity
        self._wait_s = wait_s
        self._batcher = Batcher()
        self._count = 0
        self._drained_by_s = math.inf
        self._closed = False
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)

    def __len__(self) -> int:
        return self._count

    def put(self, ready: Ready) -> None:
        """Add an item as soon as there is room. After `close` it is dropped."""
        with self._lock:
            while self._count >= self._capacity and not self._closed:
                self._room.wait()
            if not self._closed:
                self._batcher.add(ready, time.monotonic())
                self._count += 1
                self._filled.notify()

    def take(self, *, most: Callable[[str], int], batch_s: Callable[[str], float]) -> Batch | None:
        """The next batch for a device that is free, as soon as there is one; None after `close`."""
        with self._lock:
            while not self._closed:
                draining = self._drained_by_s < math.inf
                terms = Terms(most=most, batch_s=batch_s, wait_s=self._wait_s, draining=draining)
                found = self._batcher.next(now_s := time.monotonic(), terms)
                if isinstance(found, Batch):
                    self._count -= len(found.ready) + len(found.expired)
                    self._room.notify_all()
                    return found
                self._filled.wait(min(found.until_s - now_s, threading.TIMEOUT_MAX))
            return None

    def drain(self, until_s: float) -> None:
        """Wait for fuller batches no longer: nothing more will come. What runs is to end by `until_s` (monotonic)."""
        with self._lock:
            self._drained_by_s = until_s
            self._filled.notify_all()

    def too_late_for(self, batch_s: float) -> bool:
        """True when a batch that takes so long, begun now, would not be done by the end of a drain."""
        return time.monotonic() + batch_s > self._drained_by_s

    def close(self) -> None:
        """Drop what is left and let everybody go. Idempotent."""
        with self._lock:
            self._closed = True
            self._batcher.clear()
            self._count = 0
            self._filled.notify_all()
            self._room.notify_all()

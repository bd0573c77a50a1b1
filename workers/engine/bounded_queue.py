"""A queue between two stages of the engine: bounded for those who can wait, high priority first, closable."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """First come, first served among items of one priority. Safe from any thread."""

    def __init__(self, *, capacity: float) -> None:
        self._capacity = capacity
        self._urgent: deque[T] = deque()
        self._normal: deque[T] = deque()
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._closed = False

    def __len__(self) -> int:
        return len(self._urgent) + len(self._normal)

    def put(self, item: T, *, urgent: bool = False) -> None:
        """Add an item as soon as there is room. After `close` it is dropped."""
        with self._lock:
            while len(self) >= self._capacity and not self._closed:
                self._room.wait()
            self._append(item, urgent=urgent)

    def add(self, items: Iterable[T], *, urgent: bool = False) -> None:
        """Add items now, whatever the bound: for what takes no more memory here than where it was."""
        with self._lock:
            for item in items:
                self._append(item, urgent=urgent)

    def get(self) -> T | None:
        """The next item, as soon as there is one; None after `close`."""
        with self._lock:
            while not self._closed:
                if self._urgent or self._normal:
                    self._room.notify()
                    return (self._urgent or self._normal).popleft()
                self._filled.wait()
            return None

    def close(self) -> None:
        """Drop what is left and let everybody go. Idempotent."""
        with self._lock:
            self._closed = True
            self._urgent.clear()
            self._normal.clear()
            self._filled.notify_all()
            self._room.notify_all()

    def _append(self, item: T, *, urgent: bool) -> None:
        if not self._closed:
            (self._urgent if urgent else self._normal).append(item)
            self._filled.notify()

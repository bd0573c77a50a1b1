"""`Gate`: lets the tasks of this process run together, or one of them alone (solo mode: after a loss).

Alone means that nothing else runs, so that what then takes the process down is known.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Safe from any thread. A task that wants to run alone waits for those that are here already. Meanwhile `closed` is
    true, and the consumer takes no more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False
        self._want_alone = 0

    @property
    def closed(self) -> bool:
        """True while a task is, or wants to be, alone."""
        return self._want_alone > 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run beside others. Waits while one is alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run beside nobody. Waits until the others are through."""
        with self._changed:
            self._want_alone += 1
            self._changed.wait_for(lambda: not self._alone and self._together == 0)
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._want_alone -= 1
                self._changed.notify_all()


GATE = Gate()
"""The one of this process: tasks go through it, the consumer asks it."""

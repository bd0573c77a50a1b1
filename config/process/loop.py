"""Threads that do the same over and over: `Loop`, which can be seen to be alive, and `Periodic`."""

import logging
import threading
from collections.abc import Callable

from lowtide.config.process.health import Progress

log = logging.getLogger(__name__)


class Loop:
    """Its life is `start` → turns → `stop`. A turn waits for a while at most, so that a stop is seen.

    What a turn raises is a mistake of ours: what can go wrong outside is met inside the turn. Then the loop ends, and
    the process with it: Pub/Sub still has every message.
    """

    def __init__(self, name: str, turn: Callable[[], None], *, stuck_after_s: float, wait_s: float = 0.0) -> None:
        self.name = name
        self.failed = False
        self._turn = turn
        self._wait_s = wait_s
        # The pause after a turn is no standstill.
        self._progress = Progress(stuck_after_s=stuck_after_s + wait_s)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Turn from now on."""
        self._progress.moved()
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Turn no more; False when the last turn has not ended by `timeout_s`. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stuck(self, now_s: float) -> bool:
        """True when a turn has not ended for too long."""
        return self._thread.is_alive() and self._progress.stuck(now_s, has_work=True)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._turn()
                self._progress.moved()
                if self._wait_s:
                    self._stopped.wait(self._wait_s)
        except Exception:  # the thread's outermost loop: the bridge sees `failed` and ends
            self.failed = True
            log.exception("%s failed", self.name)


class Periodic:
    """Its life is `start` → a turn after each pause → `stop`. What a turn raises is logged, and the next one comes: for
    work that a process can do without for a while.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], object],
        *,
        pause_s: Callable[[], float],
        at_once: bool = False,
        at_end: bool = False,
    ) -> None:
        """`at_once`: the first turn comes before the first pause. `at_end`: `stop` lets a last one come at once."""
        self._name = name
        self._turn = turn
        self._pause_s = pause_s
        self._at_once = at_once
        self._at_end = at_end
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.stopping = False
        """No turn begins any more; a long one may look."""

    def start(self) -> None:
        """Turn from now on."""
        self._thread.start()

    def wake(self) -> None:
        """Let the next turn come now. From any thread, which doesn't wait."""
        self._awake.set()

    def stop(self, timeout_s: float | None = None) -> None:
        """Turn no more; waits for a turn that is under way, at most so long. Idempotent."""
        self.stopping = True
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        if self._at_once:
            self._awake.set()
        while not self.stopping:
            self._awake.wait(self._pause_s())
            self._awake.clear()
            if not self.stopping:
                self._take_turn()
        if self._at_end:
            self._take_turn()

    def _take_turn(self) -> None:
        try:
            self._turn()
        except Exception:  # outermost: a turn that fails must not be the last
            log.exception("a turn of %s failed", self._name)

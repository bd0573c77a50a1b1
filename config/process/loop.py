"""Threads that do the same over and over: `Periodic`, and `Loop`, which can be seen to be alive."""

import logging
import threading
from collections.abc import Callable

from lowtide.config.process.health import Progress

log = logging.getLogger(__name__)


class Periodic:
    """Runs a turn after each pause, from `start` until `stop`. What a turn raises is logged, and the next one comes:
    for work that a process can do without for a while.
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
        self.name = name
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

    def stop(self, timeout_s: float | None = None) -> bool:
        """Turn no more; waits for a turn that is under way, at most so long. False when that goes on. Idempotent."""
        self.stopping = True
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

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
            log.exception("a turn of %s failed", self.name)


class Loop(Periodic):
    """Turns that a process can't do without: it can be seen that they go on. A turn must return soon.

    What a turn raises is a mistake of ours: what can go wrong outside is met inside the turn. Then the loop ends, and
    the process with it: Pub/Sub still has every message.
    """

    def __init__(self, name: str, turn: Callable[[], object], *, stuck_after_s: float, wait_s: float = 0.0) -> None:
        """`wait_s`: the pause after a turn, which is no standstill."""
        super().__init__(name, turn, pause_s=lambda: wait_s, at_once=True)
        self.failed = False
        self._progress = Progress(stuck_after_s=stuck_after_s + wait_s)

    def start(self) -> None:
        """Turn from now on."""
        self._progress.moved()
        super().start()

    def stuck(self, now_s: float) -> bool:
        """True when a turn has not ended for too long."""
        return self._thread.is_alive() and self._progress.stuck(now_s, has_work=True)

    def _take_turn(self) -> None:
        try:
            self._turn()
            self._progress.moved()
        except Exception:  # the thread's outermost loop: the bridge sees `failed` and ends
            self.failed = self.stopping = True
            log.exception("%s failed", self.name)

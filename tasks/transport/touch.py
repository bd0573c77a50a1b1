"""One thread that says for every task this process holds: its holder lives.

A thread of its own, with a client of its own: Celery's loop may be blocked for longer than the reaper waits.
"""

import logging
import threading

from redis import RedisError

from lowtide.tasks.transport.ledger import Ledger
from lowtide.tasks.transport.moves import Moves

log = logging.getLogger(__name__)

TOUCH_S = 5.0
"""A quarter of what the reaper waits for: three touches may fail."""

TOUCH_TIMEOUT_S = 4.0
"""On a dead connection: the next touch, on a new one, still comes in time."""


class Toucher:
    """Its life is `start` → a touch every 5 s → `stop`. A Redis that is away is tried again at the next touch."""

    def __init__(self, moves: Moves, ledger: Ledger, *, worker: str, interval_s: float = TOUCH_S) -> None:
        self._moves = moves
        self._ledger = ledger
        self._worker = worker
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="toucher", daemon=True)

    def start(self) -> None:
        """Touch now, then keep touching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop touching: what is still held will be given to others. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2 * TOUCH_TIMEOUT_S)

    def touch(self) -> None:
        """Touch once. Never raises what a Redis that is away raises."""
        held = self._ledger.everything()
        if not held:
            return
        try:
            alive = self._moves.touch(self._worker, held)
        except RedisError as error:
            if not self._failing:
                log.warning("%d held tasks could not be touched: %s", len(held), error)
            self._failing = True
            return
        if self._failing:
            log.warning("held tasks are touched again: %d, of which Redis knows %d", len(held), alive)
        self._failing = False

    def _run(self) -> None:
        while True:
            try:
                self.touch()
            except Exception:  # outermost loop: whoever stops touching loses what it holds
                log.exception("a touch failed")
            if self._stopped.wait(self._interval_s):
                return

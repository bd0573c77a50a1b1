"""The thread that lets a worker's standing follow its outcomes and those of others."""

import logging
import threading
from collections.abc import Callable

from redis import RedisError

from lowtide.workers.suspicion.standing import Others, Standing

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""A worker that breaks fails hundreds of requests in a second. A look costs nothing as long as nothing is charged."""


class Guard:
    """Its life is `start` → looks → `stop`. Redis is asked only while something is charged."""

    def __init__(self, standing: Standing, others: Others, *, give_back: Callable[[], object]) -> None:
        """`give_back`: what is in process, when the worker became suspect."""
        self._standing = standing
        self._others = others
        self._give_back = give_back
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            if not self._standing.wants_turn():
                continue
            try:
                if self._standing.turn(self._others):
                    self._give_back()
            except RedisError as error:
                log.debug("not comparing with other workers: %s", error)

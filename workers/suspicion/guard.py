"""The thread that lets a worker's standing follow its outcomes and those of others."""

import logging
from collections.abc import Callable

from redis import RedisError

from lowtide.config.process.loop import Periodic
from lowtide.workers.suspicion.standing import Others, Standing

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""A worker that breaks fails hundreds of requests in a second. A look costs nothing as long as nothing is charged."""


class Guard(Periodic):
    """Its life is `start` → looks → `stop`. Redis is asked only while something is charged."""

    def __init__(self, standing: Standing, others: Others, *, hand_back: Callable[[], object]) -> None:
        """`hand_back`: what is in process, when the worker became suspect."""
        super().__init__("guard", self._look, pause_s=lambda: LOOK_S)
        self._standing = standing
        self._others = others
        self._hand_back = hand_back

    def _look(self) -> None:
        if not self._standing.wants_turn():
            return
        try:
            if self._standing.turn(self._others):
                self._hand_back()
        except RedisError as error:
            log.debug("not comparing with other workers: %s", error)

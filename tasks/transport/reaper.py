"""Gives back what vanished workers held. Every bridge and every worker can do it, and one at a time does: it looks at
all that is held, which would cost Redis as much again for each process that did. Two at once get on, too.

A live worker touches what it holds every 5 s. What nobody touched for 20 s, while this reaper could see Redis all
the time, has no holder. Time is this process' monotonic clock and differences of Redis' own: skew doesn't matter.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from redis import Redis, RedisError

from lowtide.tasks.keys import Keys
from lowtide.tasks.leadership import Leadership
from lowtide.tasks.store import ANSWER_S
from lowtide.tasks.transport.moves import Moves

log = logging.getLogger(__name__)

QUIET_S = 20.0
SWEEPS_PER_QUIET = 10
LAPSES_PER_QUIET = 2
TRIES_PER_QUIET = 4
"""Of those who don't lead: the successor of one that vanished begins to watch within 10 + 6 s, and gives back what is
quiet for 20 s from then on.
"""
GAP_SWEEPS = 3
"""So many intervals between two looks are a gap: Redis, or this process, stood still, and perhaps the workers too."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A score (None: the message has none), and since when it has been the same."""

    score: float | None
    since_s: float


class Watch:
    """Which tags have been quiet for long enough. Pure: it is told the time."""

    def __init__(self, *, quiet_s: float, gap_s: float) -> None:
        self._quiet_s = quiet_s
        self._gap_s = gap_s
        self._seen: dict[str, Seen] = {}
        self._looked_s: float | None = None

    def look(self, scores: Mapping[str, float | None], now_s: float) -> dict[str, float | None]:
        """The tags whose score has not changed for `quiet_s`, with that score, oldest first."""
        if self._looked_s is not None and now_s - self._looked_s > self._gap_s:
            self.restart()
        self._looked_s = now_s
        before = self._seen
        self._seen = {
            tag: seen if (seen := before.get(tag)) and seen.score == score else Seen(score, now_s)
            for tag, score in scores.items()
        }
        return {tag: seen.score for tag, seen in self._seen.items() if now_s - seen.since_s >= self._quiet_s}

    def restart(self) -> None:
        """Forget everything: what wasn't seen all the time wasn't seen."""
        self._seen = {}


class Reaper:
    """Its life is `start` → a turn every 2 s while it leads, every 5 s while it doesn't → `stop`. `redis` answers in
    bytes.
    """

    def __init__(
        self, redis: Redis, keys: Keys, *, quiet_s: float = QUIET_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._moves = Moves(redis, keys)
        self._clock = clock
        self._leadership = Leadership(redis, keys.reaper, lapse_s=quiet_s / LAPSES_PER_QUIET)
        self._interval_s = quiet_s / SWEEPS_PER_QUIET
        self._try_every_s = quiet_s / TRIES_PER_QUIET
        self._watch = Watch(quiet_s=quiet_s, gap_s=GAP_SWEEPS * self._interval_s)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        """Take part from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Sweep no more, and let another lead. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(ANSWER_S)
        self._leadership.give_up()

    def turn(self) -> int:
        """`sweep`, if this one leads."""
        return self.sweep() if self._leadership.renew() else 0

    def sweep(self) -> int:
        """Look once, and give back what has been quiet; returns how many. A failure starts the watch over."""
        try:
            quiet = self._watch.look(self._moves.look(), self._clock())
            moved = sum(self._moves.reap(tag, score) for tag, score in reversed(quiet.items()))
        except RedisError as error:
            log.debug("the watch over held tasks starts over: %s", error)
            self._watch.restart()
            return 0
        if moved:
            log.warning("gave back %d tasks of vanished workers", moved)
        return moved

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_s()):
            try:
                self.turn()
            except Exception:  # outermost loop: one odd entry must not end the watch over all others
                log.exception("a sweep failed")

    def _pause_s(self) -> float:
        """Not all processes of a fleet ask for the lock at the same moment."""
        pause_s = self._interval_s if self._leadership.held else self._try_every_s
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

"""Gives back what vanished workers held. Every bridge and every worker has a sweeper; a lock in Redis lets one of them
work at a time. Two at once do no harm.

A live process renews its entry in the register every 5 s. One that was not renewed for 20 s, while this sweeper could
see Redis all the time, is taken for dead: what it held goes back in steps that are small enough for Redis to serve
others in between. The first step checks that the entry is unchanged, and marks the worker as given up. Silence is
measured by this process' monotonic clock; one that has just taken over also goes by Redis' clock, while it has seen
both go alike. So skew doesn't matter. O(workers): each look reads a name and a number of each. One command a second.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError, ResponseError

from lowtide.config.process.loop import Periodic
from lowtide.config.process.outage import Outage
from lowtide.tasks.chunks.blob import Blobs
from lowtide.tasks.errors import OtherProtocol
from lowtide.tasks.held.moves import Moves
from lowtide.tasks.held.silence_watch import Sight, SilenceWatch
from lowtide.tasks.redis.connect import ANSWER_S, newest_connection
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.leadership import Leadership
from lowtide.tasks.redis.protocol import check
from lowtide.tasks.redis.registry import Kind, Register, unregister
from lowtide.tasks.redis.trouble import told
from lowtide.tasks.waking.queue_watch import QueueWatch

log = logging.getLogger(__name__)

QUIET_S = 20.0
SWEEPS_PER_QUIET = 10
LAPSE_SWEEPS = 6
TRIES_PER_QUIET = 4
"""Of those who don't lead: the successor of one that vanished is found within 12 + 6 s, and gives back at once what has
been quiet for 20 s, as far as it can know. So an earlier one would give nothing back earlier.
"""
RENEWAL_SWEEPS = 3.25
"""So many intervals after a renewal of the lock the next is due: every fourth look, as it lapses after six. While there
is something to give back, which takes longer, each look renews it.
"""
GAP_SWEEPS = 3
"""So many intervals between two looks are a gap: Redis, or this process, stood still, and perhaps the workers too."""
GAP_TRIES = 2
"""Likewise between two tries to lead."""


class Sweeper:
    """Its life is `start` → a turn every 2 s while it leads, every 5 s while it doesn't → `stop`. `redis` must not
    decode answers. `queue_watch` runs only while this one leads.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        queue_watch: QueueWatch | None = None,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue_watch = queue_watch
        self._redis = redis
        self._keys = keys
        self._moves = Moves(redis, keys)
        self._blobs = Blobs(redis, keys)
        self._quiet_s = quiet_s
        self._clock = clock
        self._interval_s = quiet_s / SWEEPS_PER_QUIET
        self._leadership = Leadership(redis, keys.sweeper, lapse_s=LAPSE_SWEEPS * self._interval_s)
        self._try_every_s = quiet_s / TRIES_PER_QUIET
        self._workers = SilenceWatch(quiet_s=quiet_s, gap_s=GAP_SWEEPS * self._interval_s)
        self._bridges = SilenceWatch(quiet_s=quiet_s, gap_s=GAP_SWEEPS * quiet_s)
        self._sight = Sight(gap_s=GAP_TRIES * self._try_every_s)
        self._connection: object = None
        self._renewed_s = -math.inf
        self._busy = self._unfinished = False
        self._chores_at_s = -math.inf
        self._chores = Outage("what is silent or stuck is not cleared away", why=told)
        self._periodic = Periodic("sweeper", self.turn, pause_s=self._next_pause_s, at_once=True)

    def start(self) -> None:
        """Take part from now on."""
        self._periodic.start()

    def stop(self) -> None:
        """Sweep no more, and let another lead. Idempotent."""
        self._periodic.stop(ANSWER_S)
        if self._queue_watch:
            self._queue_watch.stop()
        self._leadership.give_up()

    def turn(self) -> int:
        """`sweep`, if this one leads."""
        self._unfinished = False
        leads = self._leads()
        if self._queue_watch:
            (self._queue_watch.start if leads else self._queue_watch.stop)()
        if not self._leadership.sure:
            # Who can't write can't beat either, though this one could read: that is no silence.
            self._restart()
            return 0
        return self.sweep() if leads else 0

    def sweep(self) -> int:
        """Look once, and give back what the silent held, for as long as there is time until the next look; returns how
        many tasks went back. A failure starts the watch over.
        """
        if self._workers.gap(self._clock()):
            self._bridges.restart()  # who looks at them more seldom does not see it
        try:
            return self._sweep_workers() + self._do_chores()
        except RedisError as error:
            log.debug("the watch over who lives starts over: %s", error)
            self._restart()
            return 0

    def _leads(self) -> bool:
        """Whoever has the lock need not ask each time: if it was lost nevertheless, two sweep for a while."""
        recent = self._clock() - self._renewed_s < RENEWAL_SWEEPS * self._interval_s
        if recent and self._leadership.held and self._leadership.sure and not self._busy:
            return True
        self._renewed_s = self._clock()
        led = self._leadership.held
        leads = self._is_ours() and self._leadership.renew()
        if (redis_s := self._leadership.asked_at_s) is not None:
            connection = newest_connection(self._redis)
            if connection is not self._connection:
                # Redis may have restarted in between, with data of a while ago: nobody was silent for so long.
                self._sight.lost()
            self._connection = connection
            self._sight.saw(redis_s, self._clock())
        if leads and not led:
            self._succeed()
        return leads

    def _succeed(self) -> None:
        """Whoever led before may have vanished together with others: they need not be watched from now on alone."""
        self._workers.succeed(self._sight)
        self._bridges.succeed(self._sight)

    def _is_ours(self) -> bool:
        """Where another protocol is spoken nobody of ours beats, and nobody leads."""
        try:
            check(self._redis, self._keys)
        except OtherProtocol:
            self._leadership.give_up()
            self._restart()
            return False
        except RedisError as error:
            log.debug("which protocol is spoken is not known: %s", error)
        return True

    def _restart(self) -> None:
        self._sight.lost()
        self._workers.restart()
        self._bridges.restart()

    def _sweep_workers(self) -> int:
        began_s = self._clock()
        total = 0
        silent = self._silent("worker", self._workers)
        self._busy = bool(silent)
        for incarnation, beat in silent.items():
            more, gave = True, 0
            while more and not self._periodic.stopping:
                moved, more = self._moves.sweep(incarnation, beat)
                gave += moved
            total += gave
            if gave:
                log.warning("worker %s was silent for %.0f s: gave back %d tasks", incarnation, self._quiet_s, gave)
            if self._clock() - began_s > self._interval_s:
                self._unfinished = True
                break  # the rest after another look: a long time without one would start the watch over
        return total

    def _do_chores(self) -> int:
        """What can wait: once in `quiet_s`, and again at the next look while there is something to give back. What
        Redis refuses of it keeps no worker from being swept.
        """
        if (now_s := self._clock()) < self._chores_at_s:
            return 0
        self._chores_at_s = now_s + self._quiet_s
        try:
            self._unregister_bridges()
            freed = self._moves.free()
        except ResponseError as error:
            self._chores.failed(error)
            return 0
        except RedisError as error:
            log.debug("chores are left for later: %s", error)
            return 0
        self._chores.over()
        if freed:
            log.warning("gave back %d tasks that could not go back before", freed)
            self._chores_at_s = now_s
        return freed

    def _unregister_bridges(self) -> None:
        """They hold nothing here: Pub/Sub gives their messages to others, who send the content anew."""
        for bridge, beat in self._silent("bridge", self._bridges).items():
            # One that lives after all registers again with its next heartbeat, and sends again what it misses.
            gone = unregister(self._redis, self._keys, "bridge", bridge, beat=beat)
            if gone and (left := self._blobs.leave_none(bridge)):
                log.warning("bridge %s was silent: deleted the content of %d chunks", bridge, left)

    def _silent(self, kind: Kind, watch: SilenceWatch) -> dict[str, float]:
        found: Any = self._redis.zrange(Register.of(self._keys, kind).beats, 0, -1, withscores=True)
        return watch.look({name.decode(errors="replace"): float(beat) for name, beat in found}, self._clock())

    def _next_pause_s(self) -> float:
        """Not all processes of a fleet ask for the lock at the same moment."""
        if self._leadership.held and self._unfinished:
            return 0.0
        pause_s = self._interval_s if self._leadership.held else self._try_every_s
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

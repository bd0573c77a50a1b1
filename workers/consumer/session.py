"""Shared by all channels of a worker process: the tasks that it holds, its incarnation, its room, its connections."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis import RedisError, ResponseError

from lowtide.config import Settings
from lowtide.config.process.outage import Outage
from lowtide.config.redis_url import RedisAddress
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.ledger import Ledger, incarnation_of
from lowtide.tasks.held.moves import Moves, Took
from lowtide.tasks.held.room import CHUNKS_OF_ROOM, NOTHING, Budget, Turns
from lowtide.tasks.queues import model_of
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.trouble import told
from lowtide.workers.consumer.loop_liveness import LoopLiveness
from lowtide.workers.consumer.wake import LOOK_S

log = logging.getLogger(__name__)

# Celery writes the status first. A result may be megabytes: its beginning is enough.
FINISHED = re.compile(rb'"status":\s*"(SUCCESS|FAILURE|REVOKED)"')
FINISHED_BYTES = 64
AGAIN_S = 1.0
COUNT_S = 30.0
"""From one comparison of what Redis and we say that we hold to the next."""
LOOP_CONNECTIONS = 2
"""One for Celery's loop; one for the thread of the pool that sends an event or a callback meanwhile."""


class WorkerSession:
    """One per worker process. It outlives connections: a task that runs while Redis restarts is still ours."""

    def __init__(
        self,
        *,
        settings: Settings,
        heartbeat: Heartbeat,
        predecessor: str | None,
        seconds_per_request: Callable[[str], float],
        closed: Callable[[], bool] = lambda: False,
        look_s: float = LOOK_S,
        limit: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`predecessor`: the incarnation that is known to be dead, whose place this process has taken."""
        self.look_s = look_s
        self.clock = clock
        self.keys = Keys.of(settings)
        self.ledger = Ledger()
        self.liveness = LoopLiveness(stuck_after_s=settings.stuck_after_s, clock=clock)
        self.address = RedisAddress.of(settings.redis_url)
        redis = connect(settings, most=LOOP_CONNECTIONS)
        self.pool = redis.connection_pool
        self.moves = Moves(redis, self.keys)
        self._turns = Turns(settings.chunk_work_s)
        self._limit_s = CHUNKS_OF_ROOM * settings.chunk_work_s
        self._seconds_per_request = seconds_per_request
        self._closed = closed
        self._limit = limit
        self._heartbeat = heartbeat
        self._predecessor = predecessor
        self._reclaim_due = False
        self._outage = Outage("Redis refuses: taking no tasks", why=told)
        self._not_before = self._counted_s = 0.0

    def connected(self) -> None:
        """A connection was made: at the next turn, what Redis thinks that we hold and we don't goes back first."""
        self._reclaim_due = True

    def turn(self, serve: Callable[[], None]) -> None:
        """Flush, then `serve`. A Redis that refuses (full, read-only, no right) is asked again in a second: kombu
        would take that for an error of ours and end the worker. Raises RedisError when there is no connection.
        """
        if self.clock() < self._not_before:
            return
        try:
            if self._reclaim_due or self._holds_unknown():
                self.reclaim()
                self._reclaim_due = False
            self.flush()
            serve()
        except ResponseError as error:
            self._outage.failed(error)
            self._not_before = self.clock() + AGAIN_S
            self._reclaim_due = True  # what a take had popped before it failed

    def budget(self, prefetch: int) -> Budget:
        """What may be taken now, with Celery's prefetch count (0: unlimited)."""
        limit = self._limit()
        if self._closed() or limit == 0:
            return NOTHING
        work_s = self.ledger.work_s(self._seconds_per_request)
        return Budget.of(prefetch=limit or prefetch, held=len(self.ledger), limit_s=self._limit_s, work_s=work_s)

    def take(self, queues: Sequence[str], *, prefetch: int) -> Took | None:
        """Take what there is room for. None: this process is not registered, so it may not. Raises RedisError."""
        incarnation = self._heartbeat.incarnation
        if incarnation is None:
            return None
        order = self._turns.order(queues)
        seconds = [self._cost_s(queue) for queue in order]
        budget = self.budget(prefetch)
        took = self.moves.take(incarnation, queues=order, seconds=seconds, budget=budget, turns=self._turns)
        self._outage.over()
        if took is None:
            self._heartbeat.lapsed(incarnation)
            return None
        cost_s = dict(zip(order, seconds, strict=True))
        self._turns.served([(item.queue, item.requests * cost_s[item.queue]) for item in took.messages])
        return took

    def is_ours(self, delivery: str) -> bool:
        """False when it was given to another while it waited here, or Redis lost it. From any thread."""
        return incarnation_of(delivery) == self._heartbeat.incarnation

    def postpone(self, delivery: str, *, due: float) -> bool:
        """Give a task up until it is due, Unix time; False when it is. Raises RedisError."""
        if delivery not in self.ledger:
            return False
        held = self.ledger[delivery]
        if not self.moves.postpone(held.incarnation, held.tag, due=due):
            return False
        self.ledger.drop(delivery)
        return True

    def flush(self) -> None:
        """Write to Redis what was released. What isn't confirmed is written again next time; what is no longer ours is
        nothing to Redis. Raises RedisError.
        """
        released = self.ledger.released()
        incarnation = self._heartbeat.incarnation
        if done := [held for held in released.done if held.incarnation == incarnation]:
            self.moves.acknowledge(done[0].incarnation, done)
        self.ledger.written(released.done)
        if back := [held for held in released.back if held.incarnation == incarnation]:
            self.moves.hand_back(back[0].incarnation, [held.tag for held in back])
        self.ledger.written(released.back)

    def try_to_flush(self) -> None:
        """Flush where an error has nobody to tell: at a channel's end."""
        try:
            self.flush()
        except RedisError as error:
            log.warning("tasks that end now are written after a reconnection, or given back by a sweeper: %s", error)

    def _holds_unknown(self) -> bool:
        """What nobody would ever give back, as this worker lives: a take that came to Redis after its answer was given
        up, or an acknowledgement that a failover undid.
        """
        if self.clock() - self._counted_s < COUNT_S or (incarnation := self._heartbeat.incarnation) is None:
            return False
        self._counted_s = self.clock()
        known = sum(held.incarnation == incarnation for held in self.ledger.everything())
        return self.moves.count_held(incarnation) > known

    def reclaim(self) -> None:
        """Give back what a predecessor held; and hand back what Redis says we hold and we don't: what a take brought
        whose answer was lost. Raises RedisError.
        """
        if self._predecessor:
            if moved := self.moves.sweep_whole(self._predecessor):
                log.warning("gave back %d tasks of this worker's predecessor", moved)
            self._predecessor = None
        if incarnation := self._heartbeat.incarnation:
            ours = {held.tag for held in self.ledger.everything() if held.incarnation == incarnation}
            tags = [tag for tag in self.moves.held_by(incarnation) if tag not in ours]
            if tags and (moved := self.moves.hand_back(incarnation, tags)):
                log.warning("handed back %d tasks whose taking had no answer", moved)

    def finished(self, task: str) -> bool:
        """True when Celery has a final result of the task. Raises RedisError."""
        if not task:
            return False
        beginning: Any = self.moves.redis.getrange(self.keys.result(task), 0, FINISHED_BYTES)
        return bool(FINISHED.search(beginning))

    def _cost_s(self, queue: str) -> float:
        model = model_of(queue)
        return self._seconds_per_request(model) if model else 0.0

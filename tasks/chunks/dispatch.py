"""`Dispatch`: chunks from when they are sent until their results are there, whatever Redis forgets meanwhile.

A bridge and a Python caller have one each. Redis may lose everything (an emptied server, another one), single tasks (a
queue that was purged) or the content beside them; it may not confirm what it was sent. All of that is sent again under
the same task ids, and a worker passes by what has a result.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.tasks.chunks.blob import Blobs
from lowtide.tasks.chunks.lost import LostTasks
from lowtide.tasks.chunks.results import ChunkResult, ChunkResults, Unanswered
from lowtide.tasks.chunks.sending import Chunk, ChunkSender, new_task_id

log = logging.getLogger(__name__)

AGAIN_AT_ONCE = 16
"""Chunks, up to 4 MiB each. What is answered meanwhile, or lost once more, is seen before the next ones."""
AGAIN_S = 5.0
"""Until content is renewed again, when Redis refuses that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """When single tasks are looked for: those that were sent at least `old_s` ago, every `every_s`. Each look that
    finds all of them doubles that, up to `seldom_s`. A task that was not found for `gone_s` is lost. Content that waits
    for workers is renewed every `renew_s`: four renewals may fail before it expires.
    """

    old_s: float
    gone_s: float
    every_s: float = 15.0
    seldom_s: float = 15.0
    renew_s: float = 120.0


class Dispatch:
    """One thread must call `take` and `tend` in a loop, and one, the same or another, `send_again`. The rest may be
    called from any.
    """

    def __init__(
        self,
        *,
        owner: str,
        sender: ChunkSender,
        results: ChunkResults,
        lost: LostTasks,
        blobs: Blobs,
        unanswered: Unanswered,
        looks: Looks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ready = False
        """Which Redis this is is known, so that a change will be noticed: only then may chunks be sent."""
        self._owner = owner
        self._sender = sender
        self._results = results
        self._lost = lost
        self._blobs = blobs
        self._unanswered = unanswered
        self._looks = looks
        self._clock = clock
        self._unsent: dict[str, None] = {}
        """Chunks that Redis did not confirm, or has forgotten since, in the order in which they were sent."""
        self._without_content: dict[str, None] = {}
        """Chunks whose content a worker did not find."""
        self._renew_at_s = clock() + looks.renew_s
        self._look_every_s = looks.every_s
        self._next_look_s = 0.0

    @property
    def behind(self) -> bool:
        """Something must be sent again: Redis did not confirm it, or has lost it."""
        return bool(self._unsent)

    def new_task_id(self) -> str:
        """An id for one chunk."""
        return new_task_id(self._owner)

    def send(self, chunks: Sequence[Chunk]) -> None:
        """Send chunks that `unanswered` has. Raises RedisError or KombuError when Redis did not confirm: each may be
        there or not, and is sent again unless it is dropped.
        """
        try:
            if not self.ready:
                self._results.remember_redis()  # first: what it forgets after that is missed
            self._sender.send(chunks)
        except (RedisError, KombuError):
            self._unsent.update(dict.fromkeys(chunk.task_id for chunk in chunks))
            raise
        self.ready = True

    def drop(self, task_id: str) -> None:
        """Nobody waits for this any more."""
        self._unsent.pop(task_id, None)
        self._without_content.pop(task_id, None)

    def take(self, timeout_s: float) -> list[ChunkResult]:
        """Results that came; waits up to `timeout_s` for the first. Raises RedisError."""
        results = self._results.take(timeout_s)
        self.ready = True
        self._without_content.update(dict.fromkeys(result.task_id for result in results if result.lost_content))
        return [result for result in results if not result.lost_content]

    def tend(self) -> None:
        """Notice what was lost, send content again, and keep content there that waits for workers. Raises RedisError,
        KombuError.
        """
        _quietly(self._renew)  # first: a Redis that takes no more tasks still takes this
        self._send_content()
        _quietly(self._look_for_lost)
        if self._results.forgot() and (task_ids := self._unanswered.task_ids()):
            log.warning("Redis lost its data: sending %d chunks again", len(task_ids))
            self._unsent.update(dict.fromkeys(task_ids))

    def send_again(self) -> None:
        """What must be. Raises RedisError, KombuError: a full Redis refuses it, while results still come."""
        while task_ids := list(self._unsent)[:AGAIN_AT_ONCE]:
            for task_id in task_ids:  # before: another thread may find one lost once more
                self._unsent.pop(task_id, None)
            try:
                self._sender.send(self._chunks(task_ids), again=True)
            except BaseException:
                self._unsent.update(dict.fromkeys(task_ids))
                raise
            if answered := [task_id for task_id in task_ids if not self._unanswered.waits_for(task_id)]:
                self._blobs.forget(answered)  # meanwhile: its content came after it was deleted

    def close(self) -> None:
        """Give the subscription's connection back."""
        self._results.close()

    def _renew(self) -> None:
        now_s = self._clock()
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + AGAIN_S
            self._blobs.renew(self._unanswered.with_content())
            self._renew_at_s = now_s + self._looks.renew_s

    def _send_content(self) -> None:
        """At once, and within the task: there it can't be lost by itself."""
        if not (task_ids := list(self._without_content)):
            return
        if chunks := self._chunks(task_ids):
            log.warning("Redis lost the content of %d chunks: sending them again", len(chunks))
            self._sender.send(chunks, again=True, within_task=True)
        for task_id in task_ids:
            self._without_content.pop(task_id, None)

    def _look_for_lost(self) -> None:
        now_s = self._clock()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + self._looks.every_s  # also if Redis refuses this one: what is unsent goes meanwhile
        old = self._unanswered.queues(age_s=self._looks.old_s)
        queues = {task_id: queue for task_id, queue in old.items() if task_id not in self._unsent}
        if lost := self._lost.look(queues):
            log.warning("%d chunks are lost, was a queue purged? Sending them again", len(lost))
        self._unsent.update(dict.fromkeys(lost))
        calm = queues and not lost and not self._lost.anything_missing
        self._look_every_s = min(2 * self._look_every_s, self._looks.seldom_s) if calm else self._looks.every_s
        self._next_look_s = now_s + self._look_every_s

    def _chunks(self, task_ids: Iterable[str]) -> list[Chunk]:
        return [chunk for task_id in task_ids if (chunk := self._unanswered.chunk_of(task_id))]


def _quietly(call: Callable[[], None]) -> None:
    """What Redis refuses of this keeps no results from being collected; a Redis that is away is met there, too."""
    try:
        call()
    except RedisError as error:
        log.debug("left for later: %s", error)

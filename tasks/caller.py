"""`Caller`: sends chunks and keeps a future for each; what Redis loses is sent again, what nobody waits for is not."""

import atexit
import logging
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.config import Process, Settings, load_settings
from lowtide.tasks.app import app
from lowtide.tasks.blob import RENEW_S, Blobs
from lowtide.tasks.chunks import Chunk, ChunkResult, ChunkResults, ChunkSender, new_owner, new_task_id
from lowtide.tasks.fork import in_each_child
from lowtide.tasks.keys import Keys
from lowtide.tasks.lost import LostTasks
from lowtide.tasks.store import connect, connect_briefly
from lowtide.tasks.trouble import named, trouble_of
from lowtide.tasks.unanswered import why_unanswered
from lowtide.tasks.wire import InferenceRequest, Outcome

log = logging.getLogger(__name__)

TAKE_S = 0.5
RECONNECT_S = 1.0
OLD_S = 30.0
"""Chunks younger than this are not looked for; and after so long without any answer the log says why."""
LOOK_S = 15.0
LOOK_SELDOM_S = 120.0
"""The longest time between two looks: each that finds all in its place doubles it."""
GONE_S = 10.0
"""So that two looks decide: a chunk that is there twice does no harm."""
CONNECTIONS = 4
"""One listens, one is the thread's; the others are for callers that look which Redis this is, the first time."""

Answer = Future[tuple[Outcome, ...]]


@dataclass(slots=True, kw_only=True)
class Sent:
    """A chunk that somebody waits for. `since_s`: monotonic, of the last time that it was sent."""

    chunk: Chunk
    answer: Answer
    since_s: float


class Caller:
    """Sends chunks and keeps a future for each: one thread listens for results, and sends again what Redis lost."""

    def __init__(self, settings: Settings) -> None:
        self._keys = keys = Keys.of(settings)
        self._owner = new_owner()
        self._sender = ChunkSender(app)
        redis = connect(settings, most=CONNECTIONS)
        self._results = ChunkResults(redis, keys, self._owner)
        self._blobs = Blobs(redis, keys)
        self._lost = LostTasks(redis, keys, self._owner, gone_s=GONE_S)
        self._brief = connect_briefly(app.conf)
        self._sent: dict[str, Sent] = {}
        self._unsent: dict[str, Chunk] = {}
        """Chunks that Redis did not confirm, or has forgotten since."""
        self._without_content: dict[str, Chunk] = {}
        """Chunks whose content a worker did not find."""
        self._reached = False
        self._renewed_s = time.monotonic()
        self._next_look_s = 0.0
        self._look_every_s = LOOK_S
        self._quiet_since_s = time.monotonic()
        self._told = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="lowtide-results", daemon=True)
        self._thread.start()

    def submit(self, queue: str, requests: Sequence[InferenceRequest], *, answer: Answer | None = None) -> Answer:
        """Send requests of one model as one chunk. Who cancels the future, which may be given, waits no longer: then
        the chunk is not sent, or not again. Raises RedisUnusable when Redis has never been reached: a wrong address,
        perhaps. Afterwards it is away for a while, and the chunk is sent then.
        """
        with named():
            return self._submit(queue, requests, answer or Future())

    def _submit(self, queue: str, requests: Sequence[InferenceRequest], answer: Answer) -> Answer:
        if not self._reached:
            # Before anything is sent: what an emptied Redis forgets would not be missed.
            self._results.remember_redis()
        wire = tuple(request.to_wire() for request in requests)
        chunk = Chunk(task_id=new_task_id(self._owner), queue=queue, requests=wire, sent_at=time.time())
        if not self._sent:
            self._quiet_since_s = time.monotonic()
        self._sent[chunk.task_id] = Sent(chunk=chunk, answer=answer, since_s=time.monotonic())
        self._results.watch(chunk.task_id)
        answer.add_done_callback(lambda _: self._drop(chunk.task_id))
        if not answer.cancelled():
            self._send(chunk)
        return answer

    def why_unanswered(self, models: Collection[str]) -> str:
        """What stands between requests of these models and their answers."""
        return why_unanswered(self._brief, self._keys, models)

    def close(self) -> None:
        """Stop listening; what is unanswered stays so. Idempotent."""
        self._stopped.set()
        self._thread.join()

    def _send(self, chunk: Chunk) -> None:
        try:
            self._sender.send([chunk])
        except (RedisError, KombuError):
            if not self._reached:
                self._drop(chunk.task_id)
                raise
            self._unsent[chunk.task_id] = chunk
        else:
            self._reached = True

    def _drop(self, task_id: str) -> None:
        """It has its answer, or nobody waits for that."""
        self._sent.pop(task_id, None)
        self._unsent.pop(task_id, None)
        self._without_content.pop(task_id, None)
        self._results.unwatch(task_id)

    def _listen(self) -> None:
        reachable = True
        while not self._stopped.is_set():
            try:
                self._tell_why_nothing_comes()
                self._settle(self._results.take(TAKE_S))
                self._reached = True
                self._renew()  # first: a Redis that takes no more tasks still takes this
                self._send_content()
                self._look_for_lost()
                self._send_unsent()
                reachable = True
            except (RedisError, KombuError) as error:
                if reachable:
                    log.warning("results of %s: Redis can't be used, trying on: %s", self._owner, trouble_of(error))
                reachable = False
                self._stopped.wait(RECONNECT_S)
            except Exception:  # the thread's outermost loop: without it no call of this process is ever answered again
                log.exception("results of %s: trying on", self._owner)
                self._stopped.wait(RECONNECT_S)
        self._results.close()

    def _settle(self, results: Sequence[ChunkResult]) -> None:
        for result in results:
            sent = self._sent.get(result.task_id)
            if sent and result.lost_content:
                self._without_content[result.task_id] = sent.chunk
            # False when nobody waits any more: the awaiting task was cancelled.
            elif sent and sent.answer.set_running_or_notify_cancel():
                sent.answer.set_result(result.outcomes_for(len(sent.chunk.requests)))
        self._results.forget([result.task_id for result in results if result.task_id not in self._without_content])
        if results or not self._sent:
            self._quiet_since_s, self._told = time.monotonic(), False

    def _send_content(self) -> None:
        """Again, at once, with it: it can't be lost again."""
        if chunks := list(self._without_content.values()):
            log.warning("Redis lost the content of %d chunks: sending them again", len(chunks))
            self._sender.send(chunks, again=True, within_task=True)
            self._results.expect_again(chunk.task_id for chunk in chunks)
            for chunk in chunks:
                self._without_content.pop(chunk.task_id, None)

    def _renew(self) -> None:
        """Content of chunks that wait for workers."""
        now_s = time.monotonic()
        if now_s - self._renewed_s >= RENEW_S:
            self._blobs.renew(task for task, sent in list(self._sent.items()) if "data" in sent.chunk.requests[0])
            self._renewed_s = now_s

    def _look_for_lost(self) -> None:
        """Single chunks that Redis lost, a queue that was purged for example."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_S  # also if Redis refuses this one: what is unsent goes meanwhile
        old = {task: sent for task, sent in list(self._sent.items()) if now_s - sent.since_s >= OLD_S}
        lost = self._lost.look({task: sent.chunk.queue for task, sent in old.items()})
        if lost:
            log.warning("%d chunks are lost, was a queue purged? Sending them again", len(lost))
        self._unsent.update((task, old[task].chunk) for task in lost)
        calm = old and not lost and not self._lost.suspects
        self._look_every_s = min(2 * self._look_every_s, LOOK_SELDOM_S) if calm else LOOK_S
        self._next_look_s = now_s + self._look_every_s

    def _send_unsent(self) -> None:
        if self._results.forgot() and self._sent:
            log.warning("Redis lost its data: sending %d unanswered chunks again", len(self._sent))
            self._unsent.update((task_id, sent.chunk) for task_id, sent in list(self._sent.items()))
        if unsent := list(self._unsent.values()):
            self._sender.send([chunk for chunk in unsent if chunk.task_id in self._sent], again=True)
            for chunk in unsent:
                self._unsent.pop(chunk.task_id, None)
                if sent := self._sent.get(chunk.task_id):
                    sent.since_s = time.monotonic()

    def _tell_why_nothing_comes(self) -> None:
        """Once, until something comes: many a caller waits without any bound."""
        quiet_s = time.monotonic() - self._quiet_since_s
        if self._told or quiet_s < OLD_S or not self._sent:
            return
        self._told = True
        waiting = [request for sent in list(self._sent.values()) for request in sent.chunk.requests]
        why = self.why_unanswered({request["model"] for request in waiting})
        log.warning("no answer for %.0f s, %d requests wait: %s", quiet_s, len(waiting), why)


_caller: Caller | None = None
_lock = threading.Lock()


def caller() -> Caller:
    """The caller of this process, by the environment's settings. A forked child gets its own: threads don't fork."""
    global _caller  # one subscription and one thread a process
    with _lock:
        if _caller is None:
            _caller = Caller(load_settings(Process.CALLER))
        return _caller


@atexit.register
def close() -> None:
    """Close the caller of this process, if there is one. The next call makes another."""
    global _caller  # as above
    with _lock:
        if _caller is not None:
            _caller.close()
            _caller = None


def _start_afresh() -> None:
    global _caller, _lock  # another thread of the parent may have held the lock
    _caller, _lock = None, threading.Lock()


in_each_child(_start_afresh)

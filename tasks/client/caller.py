"""`Caller`: sends the chunks of this process and waits for their results. What nobody waits for is forgotten."""

import atexit
import logging
import math
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.config import Process, Settings, load_settings
from lowtide.tasks.app import app
from lowtide.tasks.chunks.blob import Blobs
from lowtide.tasks.chunks.dispatch import Dispatch, Looks
from lowtide.tasks.chunks.lost import LostTasks
from lowtide.tasks.chunks.results import ChunkResult, ChunkResults
from lowtide.tasks.chunks.sending import Chunk, ChunkSender, new_owner
from lowtide.tasks.client.diagnosis import why_unanswered
from lowtide.tasks.fork import in_each_child
from lowtide.tasks.redis.connect import connect, connect_briefly
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.trouble import named, trouble_of
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest

log = logging.getLogger(__name__)

TAKE_S = 0.5
RECONNECT_S = 1.0
LOOKS = Looks(old_s=30.0, gone_s=10.0, seldom_s=120.0)
"""Two looks decide: a chunk that is there twice does no harm."""
QUIET_S = 30.0
CONNECTIONS = 4
"""One listens, one is the thread's; the others are for callers that look which Redis this is, the first time."""

Answer = Future[tuple[Outcome, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A chunk that somebody waits for. `sent_s`: monotonic."""

    chunk: Chunk
    answer: Answer
    sent_s: float


class Caller:
    """Keeps a future for each chunk; one thread receives results and sends again what Redis lost."""

    def __init__(self, settings: Settings, *, looks: Looks = LOOKS, quiet_s: float = QUIET_S) -> None:
        """`quiet_s`: after so long without any answer the log says why."""
        self._keys = keys = Keys.of(settings)
        self._owner = owner = new_owner()
        self._sent: dict[str, Sent] = {}
        self._redis = redis = connect(settings, most=CONNECTIONS)
        self._blobs = Blobs(redis, keys)
        self._dispatch = Dispatch(
            owner=owner,
            sender=ChunkSender(app),
            results=ChunkResults(redis, keys, owner, unanswered=self),
            lost=LostTasks(redis, keys, owner, gone_s=looks.gone_s),
            blobs=self._blobs,
            unanswered=self,
            looks=looks,
        )
        self._brief = connect_briefly(app.conf)
        self._quiet_s = quiet_s
        self._quiet_since_s = time.monotonic()
        """Never again, once the log has said why; until something comes."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="lowtide-results", daemon=True)
        self._thread.start()

    def submit(self, queue: str, requests: Sequence[InferenceRequest], *, answer: Answer | None = None) -> Answer:
        """Send requests of one model as one chunk. Who cancels the future, which may be given, waits no longer: then
        the chunk is not sent, or not again. Raises RedisUnusable when Redis has never been reached: a wrong address,
        perhaps. Afterwards it is away for a while, and the chunk is sent then.
        """
        answer = answer or Future()
        wire = tuple(request.to_wire() for request in requests)
        chunk = Chunk(task_id=self._dispatch.new_task_id(), queue=queue, requests=wire, sent_at=time.time())
        if not self._sent:
            self._quiet_since_s = time.monotonic()
        self._sent[chunk.task_id] = Sent(chunk=chunk, answer=answer, sent_s=time.monotonic())
        answer.add_done_callback(lambda _: self._drop(chunk.task_id))
        if not answer.cancelled():
            with named():
                self._send(chunk)
        return answer

    def why_unanswered(self, models: Collection[str]) -> str:
        """What stands between requests of these models and their answers."""
        return why_unanswered(self._brief, self._keys, models)

    def close(self) -> None:
        """Stop listening, and disconnect; what is unanswered stays so. Idempotent."""
        self._stopped.set()
        self._thread.join()
        self._redis.close()
        self._brief.close()

    # ---- what `Dispatch` asks

    def waits_for(self, task_id: str) -> bool:
        """True while somebody waits for it."""
        return task_id in self._sent

    def chunk_of(self, task_id: str) -> Chunk | None:
        """A chunk that somebody waits for."""
        sent = self._sent.get(task_id)
        return sent.chunk if sent else None

    def task_ids(self) -> list[str]:
        """Of all chunks that somebody waits for."""
        return list(self._sent)

    def queues(self, *, age_s: float) -> dict[str, str]:
        """Where those are that were sent so long ago."""
        now_s = time.monotonic()
        return {task: sent.chunk.queue for task, sent in list(self._sent.items()) if now_s - sent.sent_s >= age_s}

    def with_content(self) -> list[str]:
        """Of those that have content."""
        return [task for task, sent in list(self._sent.items()) if "data" in sent.chunk.requests[0]]

    # ---- sending and listening

    def _send(self, chunk: Chunk) -> None:
        try:
            self._dispatch.send([chunk])
        except (RedisError, KombuError):
            if not self._dispatch.ready:
                self._drop(chunk.task_id)
                raise
        except BaseException:  # an interrupt: nobody gets the future
            self._drop(chunk.task_id)
            raise
        if chunk.task_id not in self._sent:
            self._dispatch.drop(chunk.task_id)  # cancelled meanwhile

    def _drop(self, task_id: str) -> None:
        """It has its answer, or nobody waits for that."""
        self._sent.pop(task_id, None)
        self._dispatch.drop(task_id)

    def _listen(self) -> None:
        reachable = True
        while not self._stopped.is_set():
            try:
                self._tell_why_nothing_comes()
                self._answer(self._dispatch.take(TAKE_S))
                self._dispatch.tend()
                self._dispatch.send_again()
                reachable = True
            except (RedisError, KombuError) as error:
                if reachable:
                    log.warning("results of %s: Redis can't be used, trying on: %s", self._owner, trouble_of(error))
                reachable = False
                self._stopped.wait(RECONNECT_S)
            except Exception:  # the thread's outermost loop: without it no call of this process is ever answered again
                log.exception("results of %s: trying on", self._owner)
                self._stopped.wait(RECONNECT_S)
        self._dispatch.close()

    def _answer(self, results: Sequence[ChunkResult]) -> None:
        for result in results:
            sent = self._sent.get(result.task_id)
            # False when nobody waits any more: the awaiting task was cancelled.
            if sent and sent.answer.set_running_or_notify_cancel():
                sent.answer.set_result(result.outcomes_for(len(sent.chunk.requests)))
        self._blobs.forget([result.task_id for result in results])
        if results or not self._sent:
            self._quiet_since_s = time.monotonic()

    def _tell_why_nothing_comes(self) -> None:
        """Once, until something comes: many a caller waits without any bound."""
        quiet_s = time.monotonic() - self._quiet_since_s
        if quiet_s < self._quiet_s or not self._sent:
            return
        self._quiet_since_s = math.inf
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

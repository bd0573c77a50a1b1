"""`Caller`: sends chunks and keeps a future for each; what Redis forgets is sent again."""

import atexit
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.config import Process, Settings, load_settings
from lowtide.tasks.app import app
from lowtide.tasks.chunks import Chunk, ChunkResult, ChunkResults, ChunkSender, new_owner, new_task_id
from lowtide.tasks.fork import in_each_child
from lowtide.tasks.keys import Keys
from lowtide.tasks.store import connect
from lowtide.tasks.wire import InferenceRequest, Outcome

log = logging.getLogger(__name__)

TAKE_S = 0.5
RECONNECT_S = 1.0


class Caller:
    """Sends chunks and keeps a future for each: one thread listens for results, and sends again what Redis lost."""

    def __init__(self, settings: Settings) -> None:
        keys = Keys.of(settings)
        self._owner = new_owner()
        self._sender = ChunkSender(app)
        self._results = ChunkResults(connect(settings), keys, self._owner)
        self._sent: dict[str, tuple[Chunk, Future[tuple[Outcome, ...]]]] = {}
        self._unsent: dict[str, Chunk] = {}
        """Chunks that Redis did not confirm, or has forgotten since."""
        self._reached = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="lowtide-results", daemon=True)
        self._thread.start()

    def submit(self, queue: str, requests: Sequence[InferenceRequest]) -> Future[tuple[Outcome, ...]]:
        """Send requests of one model as one chunk. Raises RedisError, or kombu's OperationalError or BatchPublishError,
        when Redis has never been reached: a wrong address, perhaps. Afterwards it is away for a while, and the chunk is
        sent then.
        """
        if not self._reached:
            # Before anything is sent: what an emptied Redis forgets would not be missed.
            self._results.remember_redis()
        wire = tuple(request.to_wire() for request in requests)
        chunk = Chunk(task_id=new_task_id(self._owner), queue=queue, requests=wire, sent_at=time.time())
        future: Future[tuple[Outcome, ...]] = Future()
        self._sent[chunk.task_id] = (chunk, future)
        self._results.watch(chunk.task_id)
        try:
            self._sender.send([chunk])
        except (RedisError, KombuError):
            if not self._reached:
                self._sent.pop(chunk.task_id)
                self._results.unwatch(chunk.task_id)
                raise
            self._unsent[chunk.task_id] = chunk
        else:
            self._reached = True
        return future

    def close(self) -> None:
        """Stop listening; what is unanswered stays so. Idempotent."""
        self._stopped.set()
        self._thread.join()

    def _listen(self) -> None:
        reachable = True
        while not self._stopped.is_set():
            try:
                self._settle(self._results.take(TAKE_S))
                self._reached = True
                self._send_unsent()
                reachable = True
            except (RedisError, KombuError) as error:
                if reachable:
                    log.warning("results of %s: Redis is unreachable, trying on: %s", self._owner, error)
                reachable = False
                self._stopped.wait(RECONNECT_S)
            except Exception:  # the thread's outermost loop: without it no call of this process is ever answered again
                log.exception("results of %s: trying on", self._owner)
                self._stopped.wait(RECONNECT_S)
        self._results.close()

    def _settle(self, results: Sequence[ChunkResult]) -> None:
        for result in results:
            chunk, future = self._sent.pop(result.task_id)
            # False when nobody waits any more: the awaiting task was cancelled.
            if future.set_running_or_notify_cancel():
                future.set_result(result.outcomes_for(len(chunk.requests)))
        self._results.forget([result.task_id for result in results])

    def _send_unsent(self) -> None:
        if self._results.forgot() and self._sent:
            log.warning("Redis lost its data: sending %d unanswered chunks again", len(self._sent))
            self._unsent.update((task_id, chunk) for task_id, (chunk, _) in list(self._sent.items()))
        if unsent := list(self._unsent):
            self._sender.send([self._unsent[task_id] for task_id in unsent if task_id in self._sent], again=True)
            for task_id in unsent:
                del self._unsent[task_id]


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

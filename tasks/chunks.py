"""Chunks on the wire: how requests travel as one Celery task, and how the outcomes come back.

Used by the bridge and by `infer_many` alike. Task ids are `<owner>.<uuid>`, so that one subscription covers all that
an owner sent.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery
from pydantic import TypeAdapter, ValidationError
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeout

from lowtide.tasks.blob import CONTENT_LOST, Blobs, apart, within
from lowtide.tasks.epoch import Epoch
from lowtide.tasks.infer import INFER_CHUNK, describe
from lowtide.tasks.keys import Keys
from lowtide.tasks.publish import AT_ONCE, Publication
from lowtide.tasks.queues import CHUNK_COUNT_HEADER, SENT_AT_HEADER, WIRE_VERSION_HEADER
from lowtide.tasks.wire import Outcome, wire_version_of

log = logging.getLogger(__name__)

SWEEP_S = 1.0
SWEEP_AT_ONCE = 500

_OUTCOMES = TypeAdapter(list[Outcome])


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Requests of one model that travel as one task; `data` in them is base64, or bytes. `sent_at`: Unix time at which
    the oldest of them was published or sent, also when the chunk is sent again.
    """

    task_id: str
    queue: str
    requests: tuple[Mapping[str, Any], ...]
    sent_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult:
    """What became of a chunk: one outcome per request, in order; or `error`, when it failed as a whole; or
    `unreadable`, why its result says nothing to this release.
    """

    task_id: str
    outcomes: tuple[Outcome, ...] = ()
    error: str | None = None
    unreadable: str | None = None

    @property
    def lost_content(self) -> bool:
        """True when it did not run, because its content was gone."""
        return self.error == CONTENT_LOST

    def outcomes_for(self, count: int, *, retry: bool = False) -> tuple[Outcome, ...]:
        """One for each of `count` requests. A chunk that failed as a whole, or whose result does not fit, is
        a failure of each; with `retry`, one that another try may cure.
        """
        if len(self.outcomes) == count:
            return self.outcomes
        error = self.error or self.unreadable or f"{len(self.outcomes)} outcomes for {count} requests"
        return (Outcome.failed("chunk_failed", error, retry=retry),) * count


def new_owner() -> str:
    """A name for one incarnation of a process that sends chunks."""
    return uuid.uuid4().hex[:12]


def new_task_id(owner: str) -> str:
    """An id for one chunk of `owner`."""
    return f"{owner}.{uuid.uuid4().hex}"


class ChunkSender:
    """Enqueues chunks in bulk, on any broker that kombu speaks; on Redis with content beside the tasks. Safe to call
    from any thread.
    """

    def __init__(self, app: Celery, *, bridge: str | None = None) -> None:
        """`bridge`: the one that sends, of whose content Redis has a list."""
        self._app = app
        self._bridge = bridge
        self._headers = app.amqp.as_task_v2("", INFER_CHUNK, argsrepr="", kwargsrepr="").headers

    def send(self, chunks: Iterable[Chunk], *, again: bool = False, within_task: bool = False) -> None:
        """Enqueue chunks. `again`: they may be there already, so a worker skips one whose result exists. `within_task`:
        content goes within the task, where it can't be lost by itself.

        Raises kombu's OperationalError or BatchPublishError when the broker did not confirm: each chunk may or may
        not be there, and sending the same ones again is safe.
        """
        delivery_info = {"redelivered": True} if again else {}
        with self._app.producer_or_acquire() as producer, producer.batch(max_size=AT_ONCE) as batch:
            publication = None
            if Publication.suits(producer.channel):
                batch.state.session = publication = Publication(producer.channel, bridge=self._bridge)
            for chunk in chunks:
                if publication and again:
                    publication.drop_news(chunk.task_id)
                if publication and not within_task:
                    requests, blob = apart(chunk.requests)
                    publication.beside(chunk.task_id, blob)
                else:
                    requests = within(chunk.requests)
                producer.publish(
                    ((requests,), {}, _NO_CALLBACKS),
                    exchange="",
                    routing_key=chunk.queue,
                    serializer="json",
                    headers=self._headers_of(chunk, requests),
                    correlation_id=chunk.task_id,
                    delivery_info=dict(delivery_info),
                    retry=False,
                )

    def _headers_of(self, chunk: Chunk, requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            **self._headers,
            "id": chunk.task_id,
            "root_id": chunk.task_id,
            "argsrepr": describe(requests),
            CHUNK_COUNT_HEADER: len(requests),
            SENT_AT_HEADER: round(chunk.sent_at, 3),
            WIRE_VERSION_HEADER: wire_version_of(requests),
        }


_NO_CALLBACKS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class ChunkResults:
    """Learns what became of an owner's chunks: a subscription to all its result keys, and a look at each of them
    every second, because a subscription misses what is published while it reconnects.

    `watch` and `remember_redis` from any thread; the rest from one.
    """

    def __init__(self, redis: Redis, keys: Keys, owner: str) -> None:
        self._redis = redis
        self._keys = keys
        self._blobs = Blobs(redis, keys)
        self._epoch = Epoch(redis, keys)
        self._watched: set[str] = set()
        self._next_sweep_s = 0.0
        self._forgot = False
        self._looking = threading.Lock()
        self._found: list[ChunkResult] = []
        """Read and not yet returned: what raises in between must not lose them, for nobody watches them any more."""
        self._subscription = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._channel = keys.result(owner)

    def watch(self, task_id: str) -> None:
        """Expect a result. Call it before the chunk is sent."""
        self._watched.add(task_id)

    def unwatch(self, task_id: str) -> None:
        """Expect it no longer."""
        self._watched.discard(task_id)

    def remember_redis(self) -> None:
        """Look which Redis this is, so that `forgot` tells when it is another. This or a `take` must have succeeded
        before the first chunk is sent. Raises RedisError.
        """
        with self._looking:
            self._forgot |= self._epoch.changed()

    def take(self, timeout_s: float) -> list[ChunkResult]:
        """Results that came, each once; waits up to `timeout_s` for the first. Raises RedisError."""
        if not self._subscription.subscribed:
            self._subscription.subscribe(self._channel)
        deadline_s = time.monotonic() + timeout_s
        while not self._found:
            now_s = time.monotonic()
            if now_s >= self._next_sweep_s:
                self._next_sweep_s = now_s + SWEEP_S
                self._sweep()
            self._read_published(0.0 if self._found else max(0.0, min(deadline_s, self._next_sweep_s) - now_s))
            if time.monotonic() >= deadline_s:
                break
        found, self._found = self._found, []
        return found

    def forgot(self) -> bool:
        """True once after Redis restarted or was emptied: chunks without a result may be gone."""
        with self._looking:
            forgot, self._forgot = self._forgot, False
        return forgot

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete results that were taken, and the content of their chunks. Raises RedisError."""
        self._blobs.forget(task_ids)

    def expect_again(self, task_ids: Iterable[str]) -> None:
        """Expect results of these chunks, which were sent again because their content was gone."""
        self._watched.update(task_ids)

    def close(self) -> None:
        """Give the subscription's connection back."""
        self._subscription.close()

    def _read_published(self, wait_s: float) -> None:
        try:
            while (message := self._subscription.get_message(timeout=wait_s)) is not None:
                key, _, value = message["data"].partition(b"\n")
                self._read(key.decode(errors="replace").removeprefix(self._keys.result("")), value)
                wait_s = 0.0
        except RedisTimeout:
            # Half a message had come when the wait was over: redis-py connects afresh. A look finds what that missed,
            # and meets the same if it is Redis that does not answer.
            self._next_sweep_s = 0.0

    def _sweep(self) -> None:
        self.remember_redis()
        watched = list(self._watched)
        for start in range(0, len(watched), SWEEP_AT_ONCE):
            tasks = watched[start : start + SWEEP_AT_ONCE]
            for task_id, value in zip(tasks, self._redis.mget(map(self._keys.result, tasks)), strict=True):
                if value is not None:
                    self._read(task_id, value)

    def _read(self, task_id: str, value: bytes | str) -> None:
        if task_id in self._watched and (result := read_result(task_id, value)):
            self._watched.discard(task_id)
            self._found.append(result)


def read_result(task_id: str, value: bytes | str) -> ChunkResult | None:
    """The result that Celery stored; None when it is not the last word. Whatever it is, it raises nothing: a worker
    of another release, or somebody else, may have written it. Unknown fields are ignored.
    """
    try:
        meta = json.loads(value)
        if meta["status"] == "SUCCESS":
            outcomes = _OUTCOMES.validate_python(meta["result"], extra="ignore")
            return ChunkResult(task_id=task_id, outcomes=tuple(outcomes))
        if meta["status"] == CONTENT_LOST:
            return ChunkResult(task_id=task_id, error=CONTENT_LOST)
        return ChunkResult(task_id=task_id, error=_why(meta)) if meta["status"] in _FAILED else None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
    return ChunkResult(task_id=task_id, unreadable=why)


_FAILED = frozenset({"FAILURE", "REVOKED"})


def _why(meta: Mapping[str, Any]) -> str:
    result = meta.get("result")
    if isinstance(result, Mapping):
        message = result.get("exc_message")
        text = " ".join(map(str, message)) if isinstance(message, list | tuple) else str(message)
        return f"{result.get('exc_type')}: {text}"
    return str(meta["status"])

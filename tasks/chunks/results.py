"""How outcomes of chunks come back. Task ids are `<owner>.<uuid>`: one subscription covers all that an owner sent."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError
from redis import Redis, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from lowtide.tasks.chunks.blob import CONTENT_LOST
from lowtide.tasks.chunks.sending import Chunk
from lowtide.tasks.redis.epoch import Epoch
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.wire.outcome import Outcome

SWEEP_S = 1.0
SWEEP_AT_ONCE = 500

_OUTCOMES = TypeAdapter(list[Outcome])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult:
    """What became of a chunk: one outcome per request, in order; or `error`, when it failed as a whole; or
    `unreadable`, why this release can't read its result.
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


class Unanswered(Protocol):
    """Who keeps the chunks that have no result yet. Asked from any thread."""

    def waits_for(self, task_id: str) -> bool:
        """True while somebody waits for the chunk's result."""

    def chunk_of(self, task_id: str) -> Chunk | None:
        """The chunk as it is sent; None when nobody waits for it any more."""

    def task_ids(self) -> list[str]:
        """All of them."""

    def queues(self, *, age_s: float) -> Mapping[str, str]:
        """Task id → queue, of those that were sent so long ago."""

    def with_content(self) -> list[str]:
        """Those that have content."""


class ChunkResults:
    """Learns what became of an owner's chunks: a subscription to all its result keys, and a look at each of them
    every second, because a subscription misses what is published while it reconnects.

    `remember_redis` from any thread; the rest from one.
    """

    def __init__(self, redis: Redis, keys: Keys, owner: str, unanswered: Unanswered) -> None:
        self._redis = redis
        self._keys = keys
        self._epoch = Epoch(redis, keys)
        self._unanswered = unanswered
        self._next_sweep_s = 0.0
        self._forgot = False
        self._looking = threading.Lock()
        self._subscription = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._channel = keys.result(owner)

    def remember_redis(self) -> None:
        """Look which Redis this is, so that `forgot` tells when it is another. This or a `take` must have succeeded
        before the first chunk is sent. Raises RedisError.
        """
        with self._looking:
            self._forgot |= self._epoch.changed()

    def take(self, timeout_s: float) -> list[ChunkResult]:
        """Results that came, each for as long as `unanswered` waits for it. Waits up to `timeout_s` for the first.
        Raises RedisError when nothing was found.
        """
        if not self._subscription.subscribed:
            self._subscription.subscribe(self._channel)
        deadline_s = time.monotonic() + timeout_s
        found: dict[str, ChunkResult] = {}
        while not found:
            now_s = time.monotonic()
            if now_s >= self._next_sweep_s:
                self._next_sweep_s = now_s + SWEEP_S
                self._sweep(found)
            try:
                self._read_published(found, 0.0 if found else max(0.0, min(deadline_s, self._next_sweep_s) - now_s))
            except RedisError:
                if not found:
                    raise
                # What a look has found is not lost with a subscription that can't be had: the next turn tells of that.
            if time.monotonic() >= deadline_s:
                break
        return list(found.values())

    def forgot(self) -> bool:
        """True once after Redis restarted or was emptied: chunks without a result may be gone."""
        with self._looking:
            forgot, self._forgot = self._forgot, False
        return forgot

    def close(self) -> None:
        """Give the subscription's connection back."""
        self._subscription.close()

    def _read_published(self, found: dict[str, ChunkResult], wait_s: float) -> None:
        try:
            while (message := self._subscription.get_message(timeout=wait_s)) is not None:
                key, _, value = message["data"].partition(b"\n")
                self._read(found, key.decode(errors="replace").removeprefix(self._keys.result("")), value)
                wait_s = 0.0
        except RedisTimeout:
            # Half a message had come when the wait was over: redis-py connects afresh. A look finds what that missed,
            # and meets the same if it is Redis that does not answer.
            self._next_sweep_s = 0.0

    def _sweep(self, found: dict[str, ChunkResult]) -> None:
        self.remember_redis()
        waiting = self._unanswered.task_ids()
        for start in range(0, len(waiting), SWEEP_AT_ONCE):
            tasks = waiting[start : start + SWEEP_AT_ONCE]
            for task_id, value in zip(tasks, self._redis.mget(map(self._keys.result, tasks)), strict=True):
                if value is not None:
                    self._read(found, task_id, value)

    def _read(self, found: dict[str, ChunkResult], task_id: str, value: bytes | str) -> None:
        waited_for = task_id not in found and self._unanswered.waits_for(task_id)
        if waited_for and (result := read_result(task_id, value)):
            found[task_id] = result


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

"""Calling from Python without losing sight: `infer_many` for lists and streams, `infer_async` for asyncio.

Unlike a plain `AsyncResult`, what is sent here is sent again when Redis forgets it.
"""

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from lowtide.tasks.app import app
from lowtide.tasks.chunks.packing import Packing, pack
from lowtide.tasks.client import served
from lowtide.tasks.client.awaiting import Awaiting, Outcomes
from lowtide.tasks.client.caller import caller
from lowtide.tasks.errors import InvalidRequest, LowtideError, RequestFailed
from lowtide.tasks.fork import Lock
from lowtide.tasks.queues import caller_queue
from lowtide.tasks.redis.trouble import named
from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.tasks.wire.request import InferenceRequest

PAUSE_S = 0.1
"""Who takes longer to give a request has no use for a full chunk: what was given goes."""

CHUNK_MAX_REQUESTS = 64

Request = InferenceRequest | Mapping[str, Any]


class NotAnswered(LowtideError):
    """Raised when the time that the caller gave is over before all requests are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request of `infer_many` and what became of it. `index` is its place among the requests given."""

    index: int
    request: InferenceRequest
    outcome: Outcome

    @property
    def outputs(self) -> list[Any]:
        """The outputs. Raises RequestFailed when there are none."""
        if self.outcome.status is Status.OK:
            return self.outcome.outputs
        if self.outcome.error is None:
            raise RequestFailed(self.outcome.status, "the request has no outputs")
        raise RequestFailed(self.outcome.error.type, self.outcome.error.message)


async def infer_async(request: Request) -> list[Any]:
    """Predict one request without blocking the event loop; returns its outputs.

    Calls that the loop makes at once travel in chunks, packed as `infer_many` does. Cancelled, it waits no longer; a
    request that was sent is predicted all the same, and not sent again.
    Raises InvalidRequest, UnknownModel, RequestFailed, RedisUnusable.
    """
    parsed = InferenceRequest.parse(request)
    return Answer(index=0, request=parsed, outcome=await _calls().ask(parsed)).outputs


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Awaiting] = weakref.WeakKeyDictionary()
_making = Lock()


def _calls() -> Awaiting:
    """Of the event loop that runs here."""
    loop = asyncio.get_running_loop()
    with _making:  # loops of several threads
        if (calls := _loops.get(loop)) is None:
            calls = _loops[loop] = Awaiting(_submit, _packing)
    return calls


def _submit(requests: list[InferenceRequest], answer: Future[Outcomes] | None = None) -> Future[Outcomes]:
    """Send requests of one model and priority. Raises UnknownModel, and what `Caller.submit` does."""
    model, priority = requests[0].model, requests[0].priority
    with named():
        served.check(app, model)
    return caller().submit(caller_queue(model, priority), requests, answer=answer)


def infer_many(
    requests: Iterable[Request],
    *,
    chunks_in_flight: int = 16,
    timeout_s: float | None = None,
    progress: bool = False,
) -> "Answers":
    """Predict many requests; iterate over the answers in the order in which they come.

    Takes from `requests` only as answers make room, so that a stream need not fit in memory. `timeout_s` bounds the
    wait for all of them (NotAnswered); without it the log says after 30 s why nothing comes. What was sent and isn't
    waited for any more, because time is over or the iterator was closed or dropped, is never sent again.
    `progress` shows a bar on a terminal; `answers.left` tells how many are left.
    Any number of threads may share the iterator, a forked child may not.
    Raises InvalidRequest before the offending request is sent, UnknownModel if the fleet does not serve its model,
    RedisUnusable if Redis was never reached, and ValueError for an argument that can't be meant.
    """
    if isinstance(requests, Mapping | str | bytes | InferenceRequest):
        raise InvalidRequest("infer_many takes any number of requests: infer_many([request]) for one")
    if chunks_in_flight < 1:
        raise ValueError(f"chunks_in_flight: expected a whole number from 1 on, got {chunks_in_flight}")
    if timeout_s is not None and not timeout_s >= 0:  # nor is NaN
        raise ValueError(f"timeout_s: expected seconds from 0 on, or None to wait without bound, got {timeout_s}")
    return Answers(
        requests,
        submit=_submit,
        packing=_packing,
        chunks_in_flight=chunks_in_flight,
        timeout_s=timeout_s,
        progress=progress,
    )


def _packing() -> Packing:
    """By what workers measured, as a bridge packs; fewer at most, for whoever iterates waits for the whole chunk."""
    return Packing(max_requests=CHUNK_MAX_REQUESTS, rates_s=served.rates(app))


class Stream:
    """Yields `(index, request)`, and None before one for which the caller's iterable took longer than `PAUSE_S`."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = requests
        self.paused = False

    def __iter__(self) -> Iterator[tuple[int, InferenceRequest] | None]:
        asked_s = time.monotonic()
        for index, request in enumerate(self._requests):
            self.paused = time.monotonic() - asked_s > PAUSE_S
            if self.paused:
                yield None
            yield index, InferenceRequest.parse(request)
            asked_s = time.monotonic()


class Answers(Iterator[Answer]):
    """The answers of `infer_many`, in completion order. `left` counts the requests that are not yet answered. Iteration
    ends, as a generator's, when it raises, is closed, or is garbage-collected.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        *,
        submit: Callable[[list[InferenceRequest]], Future[Outcomes]],
        packing: Callable[[], Packing],
        chunks_in_flight: int = 16,
        timeout_s: float | None = None,
        progress: bool = False,
    ) -> None:
        total = len(requests) if isinstance(requests, Sized) else None
        self._submit = submit
        self._stream = Stream(requests)
        self._chunks: Iterator[list[tuple[int, InferenceRequest]]] = pack(
            self._stream,
            request_of=lambda item: item[1],
            packing=packing,
        )
        self._chunks_in_flight = chunks_in_flight
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._waiting: dict[Future[Outcomes], list[tuple[int, InferenceRequest]]] = {}
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._closed: Future[Outcomes] = Future()
        self._give_up = weakref.finalize(self, _cancel, self._waiting, self._process)
        self._give_up.atexit = False
        self._ready: list[Answer] = []
        self._total = total
        self._taken = 0
        self._answered = 0
        self._bar = click.progressbar(length=total or 0, label="infer", show_pos=True) if progress else None

    @property
    def left(self) -> int:
        """Requests not yet answered: of all when their number is known, else of those sent."""
        return (self._taken if self._total is None else self._total) - self._answered

    def __length_hint__(self) -> int:
        return self.left

    def close(self) -> None:
        """Wait no longer; what was sent is not sent again. Idempotent."""
        self._chunks = iter(())
        with suppress(InvalidStateError):  # another thread closes it, too
            self._closed.set_result(())
        self._give_up()

    def __next__(self) -> Answer:
        if os.getpid() != self._process:
            raise LowtideError("this iterator is of the process that this one was forked from: call infer_many here")
        with self._lock:
            if self._closed.done():
                raise StopIteration
            while not self._ready:
                try:
                    self._send()
                except BaseException:
                    self.close()  # who goes on after it would miss requests, without a word
                    raise
                if not self._waiting:
                    self._show(finish=True)
                    raise StopIteration
                self._collect()
            self._answered += 1
            self._show()
            return self._ready.pop()

    def _send(self) -> None:
        while len(self._waiting) < self._chunks_in_flight and (items := next(self._chunks, None)):
            requests = [request for _, request in items]
            self._waiting[self._submit(requests)] = items
            self._taken += len(items)
            if self._closed.done():  # meanwhile, by another thread
                _cancel(self._waiting, self._process)
            if self._stream.paused and any(answer.done() for answer in self._waiting):
                return  # an answer that is there shall not wait for the next request

    def _collect(self) -> None:
        waiting = dict(self._waiting)  # another thread may close this meanwhile
        done, _ = wait([*waiting, self._closed], timeout=self._left_s(), return_when=FIRST_COMPLETED)
        if not done:
            models = {items[0][1].model for items in self._waiting.values()}
            self.close()
            raise NotAnswered(
                f"{self.left} requests are not answered in the time given: {caller().why_unanswered(models)}"
            )
        for future in [future for future in done if self._waiting.pop(future, None)]:
            for (index, request), outcome in zip(waiting[future], future.result(), strict=True):
                self._ready.append(Answer(index=index, request=request, outcome=outcome))

    def _left_s(self) -> float | None:
        if self._deadline_s is None:
            return None
        return min(max(0.0, self._deadline_s - time.monotonic()), threading.TIMEOUT_MAX)

    def _show(self, *, finish: bool = False) -> None:
        if self._bar is None:
            return
        if finish:
            self._bar.render_finish()
        else:
            self._bar.update(1)


def _cancel(waiting: dict[Future[Outcomes], Any], process: int) -> None:
    if os.getpid() == process:  # a child has a copy of what its parent waits for
        while waiting:  # another thread may be taking from it
            waiting.popitem()[0].cancel()

"""Packs calls of `infer_async` that were made in one turn of an event loop into chunks; each call has its own future.

A call that is alone waits for nobody. While `SENDS` are under way, calls that come wait for one of them to end, a
millisecond or two, and then go together: the busier, the larger the chunks.
"""

import asyncio
import copy
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from lowtide.tasks.chunks.packing import Packing, pack
from lowtide.tasks.errors import LowtideError
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest

SENDS = 4
"""Under way at a time, from which on calls wait for each other."""

Outcomes = tuple[Outcome, ...]
Submit = Callable[[list[InferenceRequest], Future[Outcomes]], object]
"""Sends requests of one model and priority as one chunk; the future gets its outcomes, or is cancelled by who waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, and the future that its caller awaits."""

    request: InferenceRequest
    outcome: asyncio.Future[Outcome]


class Awaiting:
    """The calls of one event loop. Only that loop's thread calls it."""

    def __init__(self, submit: Submit, packing: Callable[[], Packing]) -> None:
        """Both are called in other threads, and may wait for Redis."""
        self._submit = submit
        self._packing = packing
        self._calls: list[Call] = []
        self._goes = False
        """At the end of this turn of the loop."""
        self._sends = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        """The loop itself keeps no task."""

    def ask(self, request: InferenceRequest) -> asyncio.Future[Outcome]:
        """Send it with what comes in this turn. Who cancels the future waits no longer, and no other is touched."""
        call = Call(request=request, outcome=asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self._go_soon()
        return call.outcome

    def _go_soon(self) -> None:
        if self._calls and not self._goes and self._sends < SENDS:
            self._goes = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        calls, self._calls, self._goes = [call for call in self._calls if not call.outcome.done()], [], False
        if len(calls) > 1:
            self._start(self._sending(asyncio.to_thread(self._packed, calls)), lambda task: self._parted(calls, task))
        elif calls:
            self._travel(calls)

    def _packed(self, calls: Sequence[Call]) -> list[list[Call]]:
        return list(pack(calls, request_of=lambda call: call.request, packing=self._packing))

    def _parted(self, calls: Sequence[Call], task: asyncio.Task[list[list[Call]]]) -> None:
        if task.cancelled() or task.exception():
            _fail(calls, task)
            return
        for chunk in task.result():
            self._travel(chunk)

    def _travel(self, calls: Sequence[Call]) -> None:
        answer: Future[Outcomes] = Future()
        left = len(calls)

        def one_less(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                answer.cancel()  # nobody waits any more; answered, it can't be

        for call in calls:
            call.outcome.add_done_callback(one_less)
        self._start(self._answered(calls, answer), lambda task: _answer(calls, task))

    async def _answered(self, calls: Sequence[Call], answer: Future[Outcomes]) -> Outcomes:
        await self._sending(asyncio.to_thread(self._submit, [call.request for call in calls], answer))
        return await asyncio.wrap_future(answer)

    async def _sending(self, step: Coroutine[Any, Any, Any]) -> Any:
        self._sends += 1
        try:
            return await step
        finally:
            self._sends -= 1
            self._go_soon()

    def _start(self, coroutine: Coroutine[Any, Any, Any], then: Callable[[asyncio.Task[Any]], None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(then)


def _answer(calls: Sequence[Call], task: asyncio.Task[Outcomes]) -> None:
    if task.cancelled() or task.exception():
        _fail(calls, task)
        return
    for call, outcome in zip(calls, task.result(), strict=True):
        if not call.outcome.done():
            call.outcome.set_result(outcome)


def _fail(calls: Sequence[Call], task: asyncio.Task[Any]) -> None:
    """Each with an error of its own: who raises one adds to its traceback."""
    error = None if task.cancelled() else task.exception()
    for call in calls:
        if call.outcome.done():
            continue
        if error is None:
            call.outcome.cancel()  # the loop ends
        else:
            call.outcome.set_exception(_own(error))


def _own(error: BaseException) -> BaseException:
    if not isinstance(error, LowtideError):
        return error
    try:
        own = copy.copy(error)
    except TypeError:  # made of other things than its sentence
        return error
    own.__cause__ = error.__cause__
    return own

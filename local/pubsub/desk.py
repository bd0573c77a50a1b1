"""`Desk`: where requests meet the state, with its clock; and what both services answer with it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from lowtide.local.errors import InvalidArgument, Refusal
from lowtide.local.pubsub.bells import Bells
from lowtide.local.pubsub.state import PubsubState
from lowtide.local.wire import Context, Protobuf, abort, unary

PAGE_MAX = 1000
_EPOCH_OFFSET_S = time.time() - time.monotonic()


def now_s() -> float:
    """Seconds since 1970 that never jump: a corrected clock must not end leases."""
    return time.monotonic() + _EPOCH_OFFSET_S


class Desk:
    """Where requests meet the state: after each, those who wait for what it changed are woken."""

    def __init__(self, state: PubsubState) -> None:
        self.state = state
        self.bells = Bells()

    def wake(self) -> None:
        """Wake the pulls that what just happened concerns."""
        self.bells.ring(self.state.drain_woken())

    def tick(self) -> None:
        """Let time pass in the state."""
        self.state.tick(now_s=now_s())
        self.wake()


def answering(desk: Desk, answer: Callable[[Protobuf], Protobuf | None], request_type: Any) -> Any:
    """A handler for a call that needs no waiting: `answer` maps request to response, or raises Refusal."""

    async def call(request: Protobuf, context: Context) -> Protobuf | None:
        try:
            response = answer(request)
        except Refusal as error:
            await abort(context, error)
        desk.wake()
        return response

    return unary(call, request_type)


def page(names: Sequence[str], *, size: int, token: str) -> tuple[Sequence[str], str]:
    """One page of sorted names and the token of the next: the first name that is not on this one."""
    if size < 0:
        raise InvalidArgument(f"Invalid page_size: {size}")
    rest = [name for name in names if name >= token]
    count = min(size or PAGE_MAX, PAGE_MAX)
    return rest[:count], rest[count] if len(rest) > count else ""

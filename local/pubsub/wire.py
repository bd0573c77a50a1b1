"""What both services share: the state with its clock, error codes, pages, and the making of gRPC handlers."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from lowtide.local.errors import InvalidArgument, Refusal
from lowtide.local.pubsub.bells import Bells
from lowtide.local.pubsub.state import PubsubState
from lowtide.local.pubsub.translate import Protobuf

PAGE_MAX = 1000
_EPOCH_OFFSET_S = time.time() - time.monotonic()

Context = Any
"""A `grpc.aio.ServicerContext`: grpcio ships no types."""


def now_s() -> float:
    """Seconds since 1970 that never jump: a corrected clock must not end leases."""
    return time.monotonic() + _EPOCH_OFFSET_S


class Desk:
    """Where requests meet the state: after each, those who wait for what it changed are woken."""

    def __init__(self, state: PubsubState) -> None:
        self.state = state
        self.bells = Bells()

    def settle(self) -> None:
        """Wake the pulls that what just happened concerns."""
        self.bells.ring(self.state.drain_woken())

    def tick(self) -> None:
        """Let time pass in the state."""
        self.state.tick(now_s=now_s())
        self.settle()


def unary(desk: Desk, answer: Callable[[Protobuf], Protobuf | None], request_type: Any) -> Any:
    """A handler for a call that needs no waiting: `answer` maps request to response, or raises PubsubError."""

    async def call(request: Protobuf, context: Context) -> Protobuf | None:
        try:
            response = answer(request)
        except Refusal as error:
            await abort(context, error)
        desk.settle()
        return response

    return waiting_unary(call, request_type)


def waiting_unary(call: Callable[[Protobuf, Context], Awaitable[Protobuf | None]], request_type: Any) -> Any:
    """A handler for a call that may wait."""
    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=request_type.pb().FromString, response_serializer=_serialize
    )


def streaming(call: Callable[[Any, Context], Awaitable[None]], request_type: Any) -> Any:
    """A handler for a call with requests and responses at will."""
    return grpc.stream_stream_rpc_method_handler(
        call, request_deserializer=request_type.pb().FromString, response_serializer=_serialize
    )


async def abort(context: Context, error: Refusal) -> None:
    """End a call with the error's status. Raises what grpc raises to unwind."""
    await context.abort(grpc.StatusCode[error.code], str(error))


def page(names: Sequence[str], *, size: int, token: str) -> tuple[Sequence[str], str]:
    """One page of sorted names and the token of the next: the first name that is not on this one."""
    if size < 0:
        raise InvalidArgument(f"Invalid page_size: {size}")
    rest = [name for name in names if name >= token]
    count = min(size or PAGE_MAX, PAGE_MAX)
    return rest[:count], rest[count] if len(rest) > count else ""


def _serialize(response: Protobuf | None) -> bytes:
    """None is a google.protobuf.Empty, whose wire form is nothing."""
    data: bytes = b"" if response is None else response.SerializeToString()
    return data

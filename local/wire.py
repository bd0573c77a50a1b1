"""How the services answer gRPC: handlers of calls, errors as statuses, and what of a message they do not know."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from lowtide.local.errors import Refusal, Unsupported

Protobuf = Any
"""A generated protobuf message: the google packages ship no types for the plain classes."""

Context = Any
"""A `grpc.aio.ServicerContext`: grpcio ships no types."""


def unary(call: Callable[[Protobuf, Context], Awaitable[Protobuf | None]], request_type: Any) -> Any:
    """A handler for a call with one request and one response. None: a google.protobuf.Empty."""
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


def check_supported(message: Protobuf, known: set[str], whose: str, *, service: str) -> None:
    """Raises Unsupported for what is set and not `known`: the service would have to ignore it."""
    unknown = sorted(field.name for field, _ in message.ListFields() if field.name not in known)
    if unknown:
        raise Unsupported(f"lowtide.local.{service} does not implement {whose} {', '.join(unknown)}: leave it out here")


def _serialize(response: Protobuf | None) -> bytes:
    """The wire form of an Empty is nothing."""
    data: bytes = b"" if response is None else response.SerializeToString()
    return data

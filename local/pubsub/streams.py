"""Streaming pull: one coroutine sends what is ready, another reads what the client says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.pubsub_v1 import types

from lowtide.local.errors import InvalidArgument, Refusal
from lowtide.local.pubsub import limits, translate
from lowtide.local.pubsub.desk import Desk, now_s
from lowtide.local.pubsub.subscription import Holder
from lowtide.local.wire import Context, Protobuf, abort

StreamingPullResponsePb = types.StreamingPullResponse.pb()

TURN_MESSAGES = 100
"""Sent to one stream at a time, so that streams of one subscription share what comes."""


@dataclass(slots=True, kw_only=True)
class _Stream:
    """What the first request fixes, and what later ones may change."""

    subscription: str
    lease_s: int
    holder: Holder


class Streams:
    """Serves every streaming pull."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._state = desk.state

    async def streaming_pull(self, requests: AsyncIterator[Protobuf], context: Context) -> None:
        """Runs until the client closes its side or cancels, or the subscription is deleted."""
        try:
            stream = self._open(await anext(aiter(requests)))
            await self._serve(stream, requests, context)
        except StopAsyncIteration:  # the client closed without a word
            return
        except Refusal as error:
            await abort(context, error)

    async def _serve(self, stream: _Stream, requests: AsyncIterator[Protobuf], context: Context) -> None:
        """Whichever ends first ends the other: the reader by the client's close, the sender by an error."""
        tasks = [asyncio.create_task(part) for part in (self._listen(stream, requests), self._send(stream, context))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, stream: _Stream, context: Context) -> None:
        while True:
            deliveries = self._state.pull(
                stream.subscription,
                max_messages=TURN_MESSAGES,
                now_s=now_s(),
                lease_s=stream.lease_s,
                holder=stream.holder,
            )
            self._desk.wake()
            if deliveries:
                response = StreamingPullResponsePb()
                translate.fill_received(response.received_messages, deliveries)
                await context.write(response)
            else:
                await self._desk.bells.wait(stream.subscription, timeout_s=None)

    async def _listen(self, stream: _Stream, requests: AsyncIterator[Protobuf]) -> None:
        async for request in requests:
            if request.subscription:
                raise InvalidArgument("subscription may only be set in the first message")
            if request.stream_ack_deadline_seconds:
                limits.check_stream_lease(request.stream_ack_deadline_seconds)
                stream.lease_s = request.stream_ack_deadline_seconds
            self._apply(stream.subscription, request)

    def _open(self, request: Protobuf) -> _Stream:
        if not request.subscription or not request.stream_ack_deadline_seconds:
            raise InvalidArgument("the first message must set subscription and stream_ack_deadline_seconds")
        limits.check_stream_lease(request.stream_ack_deadline_seconds)
        self._state.subscription(request.subscription)
        self._apply(request.subscription, request)
        holder = Holder(max_messages=request.max_outstanding_messages, max_bytes=request.max_outstanding_bytes)
        return _Stream(subscription=request.subscription, lease_s=request.stream_ack_deadline_seconds, holder=holder)

    def _apply(self, subscription: str, request: Protobuf) -> None:
        """Do what a request acknowledges and extends."""
        if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
            raise InvalidArgument("modify_deadline_ack_ids and modify_deadline_seconds differ in length")
        if request.ack_ids:
            self._state.acknowledge(subscription, request.ack_ids, now_s=now_s())
        for ack_id, lease_s in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
            self._state.modify_deadline(subscription, [ack_id], lease_s=lease_s, now_s=now_s())
        self._desk.wake()

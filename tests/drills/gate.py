"""A gRPC proxy before the emulator: refuses to publish for a while, or has every message delivered again and again.

It passes unary calls on as bytes: the bridge makes no others.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from lowtide.bridge.pubsub.client import ModifyAckDeadlineRequest, PullRequest, PullResponse
from tests.ports import steady_port

THREADS = 16
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
SERVICE = "/google.pubsub.v1."


class Gate(grpc.GenericRpcHandler):
    """Its life is `start` → … → `stop`. `host` is what PUBSUB_EMULATOR_HOST takes."""

    def __init__(self, emulator_host: str) -> None:
        self.host = f"127.0.0.1:{steady_port()}"
        self.refuses_publish = threading.Event()
        self.deliveries = 1
        """How often each message is delivered: the deadline of all but the last is forced to expire."""
        self._seen: Counter[str] = Counter()
        self._channel = grpc.insecure_channel(emulator_host, options=OPTIONS)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port(self.host)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(1).wait()
        self._channel.close()

    def delivered(self, times: int) -> int:
        """How many messages were delivered so often."""
        return sum(count >= times for count in self._seen.values())

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        method: str = handler_call_details.method

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            return self._call(method, request, context)

        return grpc.unary_unary_rpc_method_handler(call)

    def _call(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method == f"{SERVICE}Publisher/Publish" and self.refuses_publish.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "the drill refuses to publish")
        try:
            response: bytes = self._channel.unary_unary(method)(request, timeout=context.time_remaining())
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        if method == f"{SERVICE}Subscriber/Pull" and self.deliveries > 1:
            self._expire(request, response)
        return response

    def _expire(self, request: bytes, response: bytes) -> None:
        again = []
        for received in PullResponse.FromString(response).received_messages:
            self._seen[received.message.message_id] += 1
            if self._seen[received.message.message_id] < self.deliveries:
                again.append(received.ack_id)
        if again:
            subscription = PullRequest.FromString(request).subscription
            expire = ModifyAckDeadlineRequest(subscription=subscription, ack_ids=again, ack_deadline_seconds=0)
            self._channel.unary_unary(f"{SERVICE}Subscriber/ModifyAckDeadline")(expire.SerializeToString(), timeout=10)

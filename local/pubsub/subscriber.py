"""The service google.pubsub.v1.Subscriber, but for streaming pull, which has a file of its own."""

from dataclasses import replace
from typing import Any

import grpc
from google.pubsub_v1 import types

from lowtide.local.errors import Refusal
from lowtide.local.pubsub import limits, translate
from lowtide.local.pubsub.desk import Desk, answering, now_s, page
from lowtide.local.pubsub.resources import Delivery
from lowtide.local.pubsub.streams import Streams
from lowtide.local.wire import Context, Protobuf, abort, streaming, unary

PullResponsePb = types.PullResponse.pb()
ListSubscriptionsResponsePb = types.ListSubscriptionsResponse.pb()

PULL_WAIT_S = 90.0
"""Longest wait of a pull whose client set no deadline."""

PULL_MARGIN_S = 1.0
"""An empty answer leaves so long before the client's deadline, or a tenth of it: an answer that comes after it would
lease messages to nobody. Google's emulator takes a second, however short the deadline."""


class Subscriber:
    """Answers requests from the state. Each method raises Refusal as the state does."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._state = desk.state

    def handler(self) -> Any:
        """The generic gRPC handler of this service. What is not in it answers UNIMPLEMENTED."""
        answers = {
            "CreateSubscription": (self.create_subscription, types.Subscription),
            "GetSubscription": (self.get_subscription, types.GetSubscriptionRequest),
            "UpdateSubscription": (self.update_subscription, types.UpdateSubscriptionRequest),
            "ListSubscriptions": (self.list_subscriptions, types.ListSubscriptionsRequest),
            "DeleteSubscription": (self.delete_subscription, types.DeleteSubscriptionRequest),
            "ModifyAckDeadline": (self.modify_ack_deadline, types.ModifyAckDeadlineRequest),
            "Acknowledge": (self.acknowledge, types.AcknowledgeRequest),
        }
        handlers = {name: answering(self._desk, answer, request) for name, (answer, request) in answers.items()}
        handlers["Pull"] = unary(self.pull, types.PullRequest)
        handlers["StreamingPull"] = streaming(Streams(self._desk).streaming_pull, types.StreamingPullRequest)
        return grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers)

    def create_subscription(self, request: Protobuf) -> Protobuf:
        """Raises AlreadyExists, Unsupported."""
        config = translate.subscription_from(request)
        return translate.subscription_to(self._state.create_subscription(config, now_s=now_s()))

    def get_subscription(self, request: Protobuf) -> Protobuf:
        """A subscription's settings."""
        return translate.subscription_to(self._state.subscription(request.subscription))

    def update_subscription(self, request: Protobuf) -> Protobuf:
        """Change what the mask names."""
        fields = translate.subscription_changes(request.update_mask.paths)
        old = self._state.subscription(request.subscription.name)
        wanted = translate.subscription_from(request.subscription)
        changed = replace(old, **{name: getattr(wanted, name) for name in fields})
        return translate.subscription_to(self._state.update_subscription(changed))

    def list_subscriptions(self, request: Protobuf) -> Protobuf:
        """A page of a project's subscriptions."""
        configs = {config.name: config for config in self._state.subscriptions(request.project)}
        names, token = page(list(configs), size=request.page_size, token=request.page_token)
        subscriptions = [translate.subscription_to(configs[name]) for name in names]
        return ListSubscriptionsResponsePb(subscriptions=subscriptions, next_page_token=token)

    def delete_subscription(self, request: Protobuf) -> None:
        """And all that it holds."""
        self._state.delete_subscription(request.subscription)

    def acknowledge(self, request: Protobuf) -> None:
        """All or none."""
        limits.check_request_bytes(request.ByteSize(), max_bytes=limits.ACK_REQUEST_MAX_BYTES)
        self._state.acknowledge(request.subscription, request.ack_ids, now_s=now_s())

    def modify_ack_deadline(self, request: Protobuf) -> None:
        """All or none."""
        limits.check_request_bytes(request.ByteSize(), max_bytes=limits.ACK_REQUEST_MAX_BYTES)
        lease_s = request.ack_deadline_seconds
        self._state.modify_deadline(request.subscription, request.ack_ids, lease_s=lease_s, now_s=now_s())

    async def pull(self, request: Protobuf, context: Context) -> Protobuf:
        """Messages as soon as there are any; none when the client's deadline nears. Ends when the client cancels."""
        until_s = now_s() + (0.0 if request.return_immediately else _patience_s(context))
        try:
            while not (deliveries := self._take(request)) and (left_s := until_s - now_s()) > 0:
                await self._desk.bells.wait(request.subscription, timeout_s=left_s)
        except Refusal as error:
            await abort(context, error)
        response = PullResponsePb()
        translate.fill_received(response.received_messages, deliveries)
        return response

    def _take(self, request: Protobuf) -> list[Delivery]:
        deliveries = self._state.pull(request.subscription, max_messages=request.max_messages, now_s=now_s())
        self._desk.wake()
        return deliveries


def _patience_s(context: Context) -> float:
    left_s = context.time_remaining()
    return PULL_WAIT_S if left_s is None else max(0.0, left_s - min(PULL_MARGIN_S, left_s / 10))

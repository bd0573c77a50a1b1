"""What every conformance test starts from: a topic, a subscription, and Google's unmodified clients."""

import contextlib
import time

import grpc
import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

PULL_S = 20.0
CALL_S = 10.0


class Bench:
    """`kind` is the server's: `emulator` or `ours`."""

    def __init__(self, endpoint, project) -> None:
        self.kind = endpoint.kind
        self.host = endpoint.host
        self.project_path = f"projects/{project}"
        # Emulator mode leaves gRPC's 4 MiB limit on answers; against Google the clients set none.
        self._channel = grpc.insecure_channel(self.host, options=[("grpc.max_receive_message_length", -1)])
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))
        self.raw_publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self.topic = self.create_topic("requests")
        self.subscription = self.create_subscription("requests")

    def close(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self._channel.close()

    def topic_path(self, name):
        return f"{self.project_path}/topics/{name}"

    def subscription_path(self, name):
        return f"{self.project_path}/subscriptions/{name}"

    def create_topic(self, name, **settings):
        request = {"name": self.topic_path(name), **settings}
        return self.publisher.create_topic(request=request, timeout=CALL_S).name

    def create_subscription(self, name, *, topic=None, **settings):
        request = {"name": self.subscription_path(name), "topic": topic or self.topic, **settings}
        return self.subscriber.create_subscription(request=request, timeout=CALL_S).name

    def publish(self, *messages, topic=None):
        """One request. A message is bytes or the fields of a PubsubMessage. Returns ids."""
        messages = [{"data": message} if isinstance(message, bytes) else message for message in messages]
        request = {"topic": topic or self.topic, "messages": messages}
        return list(self.raw_publisher.publish(request=request, timeout=CALL_S).message_ids)

    def pull(self, count, *, subscription=None):
        """Exactly `count` messages, in as many calls as it takes."""
        received, until_s = [], time.monotonic() + PULL_S
        while len(received) < count and time.monotonic() < until_s:
            received += self.pull_once(count - len(received), subscription=subscription)
        assert len(received) == count
        return received

    def pull_once(self, max_messages=1000, *, subscription=None, timeout_s=5.0):
        """With no message, an empty answer or DeadlineExceeded: clients have to bear both."""
        request = {"subscription": subscription or self.subscription, "max_messages": max_messages}
        with contextlib.suppress(DeadlineExceeded):
            return list(self.subscriber.pull(request=request, timeout=timeout_s, retry=None).received_messages)
        return []

    def peek(self, *, subscription=None):
        """What is there at this moment."""
        request = {
            "subscription": subscription or self.subscription,
            "max_messages": 1000,
            "return_immediately": True,
        }
        with pytest.warns(DeprecationWarning, match="return_immediately"):
            return list(self.subscriber.pull(request=request, timeout=CALL_S, retry=None).received_messages)

    def ack(self, *received, subscription=None):
        ack_ids = [item.ack_id for item in received]
        self.subscriber.acknowledge(subscription=subscription or self.subscription, ack_ids=ack_ids, timeout=CALL_S)

    def lease(self, seconds, *received, subscription=None):
        self.subscriber.modify_ack_deadline(
            subscription=subscription or self.subscription,
            ack_ids=[item.ack_id for item in received],
            ack_deadline_seconds=seconds,
            timeout=CALL_S,
        )


@pytest.fixture
def bench(pubsub, project):
    bench = Bench(pubsub, project)
    yield bench
    bench.close()

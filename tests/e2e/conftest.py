"""A fleet on Google's emulator and a separately started Redis, and the user's side of it."""

import time
import uuid
from collections.abc import Iterable, Iterator

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1
from redis import Redis

from tests.cloud_storage import CloudStorage
from tests.fleet import READY_S, Fleet


class Topics:
    """The user's side: a plain google-cloud-pubsub publisher and subscriber."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()

    def topic(self, name: str) -> str:
        return self.publisher.topic_path(self.project, name)

    def listen(self, topic: str, *, make: bool = False) -> str:
        if make:
            self.publisher.create_topic(name=self.topic(topic))
        name = self.subscriber.subscription_path(self.project, f"listen-{uuid.uuid4().hex[:8]}")
        self.subscriber.create_subscription(name=name, topic=self.topic(topic))
        return name

    def publish(self, data: bytes, topic: str = "lowtide-requests", **attributes: str) -> str:
        return self.publisher.publish(self.topic(topic), data, **attributes).result(timeout=READY_S)

    def collect(
        self, subscription: str, request_ids: Iterable[str], *, within_s: float = READY_S
    ) -> dict[str, pubsub_v1.types.PubsubMessage]:
        """The messages that answer these requests, by request id; fewer when time is over."""
        missing, found = set(request_ids), {}
        deadline_s = time.monotonic() + within_s
        while missing and time.monotonic() < deadline_s:
            try:
                response = self.subscriber.pull(subscription=subscription, max_messages=1000, timeout=2, retry=None)
            except DeadlineExceeded:
                continue
            for received in response.received_messages:
                given = received.message.attributes
                request_id = given.get("lowtide_request_id") or given["request_id"]
                if request_id in missing:
                    missing.discard(request_id)
                    found[request_id] = received.message
            if response.received_messages:
                ack_ids = [received.ack_id for received in response.received_messages]
                self.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
        return found

    def close(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self.subscriber.close()


@pytest.fixture(scope="module")
def fleet(redis_server, google_emulator, tmp_path_factory) -> Iterator[Fleet]:
    """Google's emulator and a separately started Redis; nothing else runs yet."""
    with Redis.from_url(redis_server.url) as redis:
        redis.flushall()
    folder = tmp_path_factory.mktemp("fleet")
    env = {
        "LOWTIDE_REDIS_URL": redis_server.url,
        "LOWTIDE_PROJECT": f"test-{uuid.uuid4().hex[:12]}",
        "LOWTIDE_DEFAULT_MODEL": "digits",
        "PUBSUB_EMULATOR_HOST": google_emulator.host,
    }
    running = Fleet(env, folder)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def cloud_storage() -> Iterator[CloudStorage]:
    storage = CloudStorage()
    yield storage
    storage.close()


@pytest.fixture(scope="module")
def topics(fleet: Fleet) -> Iterator[Topics]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", fleet.env["PUBSUB_EMULATOR_HOST"])
        side = Topics(fleet.project)
    yield side
    side.close()

"""A state with a clock of the test's own."""

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from lowtide.local.pubsub.resources import Content, SubscriptionConfig, TopicConfig
from lowtide.local.pubsub.state import PubsubState

TOPIC = "projects/test/topics/requests"
OTHER_TOPIC = "projects/test/topics/dead-letters"
SUB = "projects/test/subscriptions/requests"
START_S = 1_800_000_000.0


class Bench:
    """A state, a clock, and the shortest way to say what happens."""

    def __init__(self, **config) -> None:
        self.now_s = START_S
        self.state = PubsubState()
        for topic in (TOPIC, OTHER_TOPIC):
            self.state.create_topic(TopicConfig(name=topic))
        self.subscribe(SUB, **config)

    def subscribe(self, name, *, topic=TOPIC, **config):
        self.state.create_subscription(SubscriptionConfig(name=name, topic=topic, **config), now_s=self.now_s)

    def publish(self, *texts, topic=TOPIC):
        return self.state.publish(topic, [Content(text.encode()) for text in texts], now_s=self.now_s)

    def pull(self, count=1000, name=SUB, **options):
        return self.state.pull(name, max_messages=count, now_s=self.now_s, **options)

    def texts(self, count=1000, name=SUB):
        return [delivery.message.content.data.decode() for delivery in self.pull(count, name)]

    def ack(self, *deliveries, name=SUB):
        self.state.acknowledge(name, [delivery.ack_id for delivery in deliveries], now_s=self.now_s)

    def lease(self, delivery, lease_s):
        self.state.modify_deadline(SUB, [delivery.ack_id], lease_s=lease_s, now_s=self.now_s)

    def wait(self, seconds):
        self.now_s += seconds
        self.state.tick(now_s=self.now_s)


@pytest.fixture
def make_bench():
    """`make_bench(**config)`: a bench whose subscription has these settings."""
    return Bench


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def traced_bytes() -> Iterator[Callable[[], int]]:
    """How much memory Python has taken since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

"""Streaming pull through `subscribe(callback)`."""

import threading
import time

import pytest
from google.api_core.exceptions import InvalidArgument, NotFound
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.types import FlowControl, StreamingPullRequest

from tests.waiting import until

WAIT_S = 20.0


class Listener:
    """A streaming subscriber that remembers what it got, and acknowledges it unless told to hold."""

    def __init__(self, subscription, *, hold=False, **flow_control) -> None:
        self.messages = []
        self._hold = hold
        self._client = pubsub_v1.SubscriberClient()
        self.future = self._client.subscribe(
            subscription, callback=self._take, flow_control=FlowControl(**flow_control)
        )

    def _take(self, message):
        self.messages.append(message)
        if not self._hold:
            message.ack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.future.cancel()
        self.future.result(timeout=WAIT_S)
        self._client.close()


def test_messages_arrive_once_before_and_after_the_stream_began_and_acks_count(bench):
    bench.publish(b"before")
    with Listener(bench.subscription) as listener:
        bench.publish(*[b"after"] * 50)
        until(lambda: len(listener.messages) >= 51)
        time.sleep(0.5)  # acks travel in batches
    assert len({message.message_id for message in listener.messages}) == len(listener.messages) == 51
    assert listener.messages[0].delivery_attempt is None
    assert bench.peek() == []


def test_a_nack_in_a_callback_delivers_again(bench):
    again = threading.Event()
    seen = set()

    def callback(message):
        if message.message_id in seen:
            message.ack()
            again.set()
        else:
            seen.add(message.message_id)
            message.nack()

    future = bench.subscriber.subscribe(bench.subscription, callback=callback)
    bench.publish(b"a")
    assert again.wait(WAIT_S)
    future.cancel()
    future.result(timeout=WAIT_S)


def test_a_stream_holds_no_more_than_its_flow_control_allows(bench):
    bench.publish(*[b"x"] * 20)
    with Listener(bench.subscription, hold=True, max_messages=5) as listener:
        until(lambda: len(listener.messages) == 5)
        time.sleep(0.5)
        assert len(listener.messages) == 5
        if bench.kind == "ours":  # a documented difference: the emulator sends all, and the client keeps the rest back
            bench.ack(*bench.pull(15))


def test_two_streams_share_a_subscription(bench):
    published = []

    def both_have_some():
        published.extend(bench.publish(*[b"x"] * 10))
        return one.messages and two.messages

    with Listener(bench.subscription) as one, Listener(bench.subscription) as two:
        until(both_have_some)
        until(lambda: len(one.messages) + len(two.messages) >= len(published))
    assert sorted(message.message_id for message in one.messages + two.messages) == sorted(published)


def test_a_stream_on_a_missing_subscription_ends_with_not_found(bench):
    future = bench.subscriber.subscribe(bench.subscription_path("missing"), callback=print)
    with pytest.raises(NotFound):
        future.result(timeout=WAIT_S)


def test_a_stream_ends_with_not_found_when_its_subscription_is_deleted(bench):
    future = bench.subscriber.subscribe(bench.subscription, callback=print)
    time.sleep(0.5)
    bench.subscriber.delete_subscription(subscription=bench.subscription)
    with pytest.raises(NotFound):
        future.result(timeout=WAIT_S)


@pytest.mark.parametrize(
    "requests",
    [
        [{"stream_ack_deadline_seconds": 10}],
        [{"subscription": "mine"}],
        [{"subscription": "mine", "stream_ack_deadline_seconds": 9}],
        [{"subscription": "mine", "stream_ack_deadline_seconds": 601}],
        [{"subscription": "mine", "stream_ack_deadline_seconds": 10}] * 2,
    ],
    ids=["no subscription", "no deadline", "9 s", "601 s", "subscription twice"],
)
def test_a_malformed_opening_is_refused(bench, requests):
    requests = [
        {**fields, "subscription": bench.subscription} if "subscription" in fields else fields for fields in requests
    ]
    with pytest.raises(InvalidArgument):
        list(bench.subscriber.streaming_pull(iter([StreamingPullRequest(fields) for fields in requests]), timeout=5))

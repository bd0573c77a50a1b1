"""Publish, pull, acknowledge: the same through Google's emulator and through ours."""

import threading
import time

import pytest
from google.api_core.exceptions import InvalidArgument, NotFound
from google.cloud import pubsub_v1


def test_what_is_published_is_pulled_with_its_attributes_id_and_time(bench):
    future = bench.publisher.publish(bench.topic, b"\x00\xffbytes", model="digits", empty="")
    (item,) = bench.pull(1)
    assert item.message.data == b"\x00\xffbytes"
    assert dict(item.message.attributes) == {"model": "digits", "empty": ""}
    assert item.message.message_id == future.result(10)
    assert abs(item.message.publish_time.timestamp() - time.time()) < 30
    assert item.delivery_attempt == 0


def test_a_thousand_messages_of_one_request_get_ids_in_order_and_all_arrive(bench):
    ids = bench.publish(*(str(number).encode() for number in range(1000)))
    received = bench.pull(1000)
    by_id = {item.message.message_id: item.message.data for item in received}
    assert [by_id[message_id] for message_id in ids] == [str(number).encode() for number in range(1000)]
    bench.ack(*received)


def test_attributes_alone_are_a_message_and_an_ordering_key_travels_along(bench):
    bench.publish({"attributes": {"only": "this"}, "ordering_key": "key", "message_id": "mine"})
    (item,) = bench.pull(1)
    assert (item.message.data, item.message.ordering_key) == (b"", "key")
    assert item.message.message_id != "mine"


def test_what_is_acknowledged_is_gone_and_a_second_ack_is_no_error(bench):
    bench.publish(b"a", b"b")
    a, b = bench.pull(2)
    bench.ack(a)
    bench.ack(a, a)
    bench.lease(0, a, b)
    (again,) = bench.pull(1)
    assert again.message.data == b.message.data
    assert bench.peek() == []


def test_a_nack_delivers_again_at_once_with_the_same_message_id_and_a_new_ack_id(bench):
    bench.publish(b"a")
    (first,) = bench.pull(1)
    started_s = time.monotonic()
    bench.lease(0, first)
    (second,) = bench.pull(1)
    assert time.monotonic() - started_s < 8  # its lease was for 10 s
    assert second.message == first.message
    assert second.ack_id != first.ack_id


def test_after_a_new_delivery_the_old_ack_id_does_nothing(bench):
    bench.publish(b"a")
    (first,) = bench.pull(1)
    bench.lease(0, first)
    (second,) = bench.pull(1)
    bench.ack(first)
    bench.lease(0, first)
    assert bench.peek() == []
    bench.lease(0, second)
    assert len(bench.pull(1)) == 1


def test_every_subscription_gets_its_own_copy(bench):
    other = bench.create_subscription("others")
    bench.publish(b"a")
    mine, theirs = bench.pull(1), bench.pull(1, subscription=other)
    assert mine[0].message == theirs[0].message
    bench.ack(*mine)
    bench.lease(0, *theirs, subscription=other)
    assert bench.peek() == []
    assert len(bench.pull(1, subscription=other)) == 1


def test_a_subscription_sees_only_what_is_published_after_its_creation(bench):
    bench.publish(b"early")
    late = bench.create_subscription("late")
    bench.publish(b"late")
    assert [item.message.data for item in bench.pull(1, subscription=late)] == [b"late"]
    assert bench.peek(subscription=late) == []


def test_a_pull_never_returns_more_than_asked_for(bench):
    bench.publish(*[b"x"] * 10)
    assert 1 <= len(bench.pull_once(3)) <= 3
    with pytest.raises(InvalidArgument):
        bench.pull_once(0)


def test_a_message_of_nearly_ten_million_bytes_passes(bench):
    data = bytes(range(256)) * (9_900_000 // 256)
    bench.publish(data)
    (item,) = bench.pull(1)
    assert item.message.data == data


def test_an_empty_pull_waits_until_shortly_before_the_deadline(bench):
    started_s = time.monotonic()
    assert bench.pull_once(timeout_s=3.0) == []
    assert time.monotonic() - started_s > 1.5


def test_a_pull_that_waits_gets_a_message_as_soon_as_it_is_published(bench):
    timer = threading.Timer(0.5, bench.publish, [b"a"])
    started_s = time.monotonic()
    timer.start()
    assert len(bench.pull_once(timeout_s=20.0)) == 1
    assert time.monotonic() - started_s < 15
    timer.join()


def test_a_pull_that_was_cancelled_takes_nothing(bench):
    """A documented difference: the emulator sometimes leases the message to the caller who has gone (3 of 12 tries)."""
    call = bench._channel.unary_unary(
        "/google.pubsub.v1.Subscriber/Pull",
        request_serializer=pubsub_v1.types.PullRequest.serialize,
        response_deserializer=pubsub_v1.types.PullResponse.deserialize,
    )
    waiting = call.future(pubsub_v1.types.PullRequest(subscription=bench.subscription, max_messages=1), timeout=60)
    time.sleep(0.3)
    waiting.cancel()
    assert bench.peek() == []  # whatever stood still meanwhile: the server has heard of it
    time.sleep(0.3)
    bench.publish(b"a")
    assert len(bench.peek()) == 1 or bench.kind == "emulator"


def test_return_immediately_does_not_wait(bench):
    started_s = time.monotonic()
    assert bench.peek() == []
    assert time.monotonic() - started_s < 8  # the call may take 10 s


@pytest.mark.parametrize("ack_ids", [["bogus"], [""], []], ids=["bogus", "empty", "none"])
def test_ack_ids_that_were_never_issued_are_refused(bench, ack_ids):
    with pytest.raises(InvalidArgument):
        bench.subscriber.acknowledge(subscription=bench.subscription, ack_ids=ack_ids)
    with pytest.raises(InvalidArgument):
        bench.subscriber.modify_ack_deadline(subscription=bench.subscription, ack_ids=ack_ids, ack_deadline_seconds=10)


def test_a_bogus_ack_id_spoils_the_whole_request(bench):
    bench.publish(b"a")
    (item,) = bench.pull(1)
    with pytest.raises(InvalidArgument):
        bench.subscriber.acknowledge(subscription=bench.subscription, ack_ids=[item.ack_id, "bogus"])
    bench.lease(0, item)
    assert len(bench.pull(1)) == 1


def test_an_ack_id_of_another_subscription_is_refused(bench):
    other = bench.create_subscription("others")
    bench.publish(b"a")
    (item,) = bench.pull(1)
    with pytest.raises(InvalidArgument):
        bench.ack(item, subscription=other)


def test_what_does_not_exist_is_not_found(bench):
    missing = bench.subscription_path("missing")
    for attempt in (
        lambda: bench.publish(b"a", topic=bench.topic_path("missing")),
        lambda: bench.pull_once(subscription=missing),
        lambda: bench.subscriber.acknowledge(subscription=missing, ack_ids=[f"{missing}:1"]),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_messages_wait_for_a_client_that_comes_back(bench):
    with pubsub_v1.SubscriberClient() as first:
        bench.publish(b"a")
        (held,) = first.pull(subscription=bench.subscription, max_messages=1, timeout=10).received_messages
        first.modify_ack_deadline(subscription=bench.subscription, ack_ids=[held.ack_id], ack_deadline_seconds=0)
    bench.publish(b"b")
    with pubsub_v1.SubscriberClient() as second:
        received = []
        while len(received) < 2:
            received += second.pull(subscription=bench.subscription, max_messages=9, timeout=10).received_messages
    assert {item.message.data for item in received} == {b"a", b"b"}
    bench.ack(*received)

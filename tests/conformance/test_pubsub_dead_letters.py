"""The dead-letter policy: attempts are counted aloud, the last failure forwards."""

import re

import pytest
from google.api_core.exceptions import NotFound, OutOfRange


@pytest.fixture
def policy(bench):
    return {"dead_letter_topic": bench.create_topic("dead-letters"), "max_delivery_attempts": 5}


def test_after_the_fifth_nack_the_message_is_a_dead_letter_that_says_where_from(bench, policy, project):
    doomed = bench.create_subscription("doomed", dead_letter_policy=policy)
    letters = bench.create_subscription("letters", topic=policy["dead_letter_topic"])
    bench.publish({"data": b"poison", "attributes": {"model": "digits"}})
    attempts = []
    for _ in range(5):
        (item,) = bench.pull(1, subscription=doomed)
        attempts.append(item.delivery_attempt)
        bench.lease(0, item, subscription=doomed)
    assert attempts == [1, 2, 3, 4, 5]
    assert bench.peek(subscription=doomed) == []  # the emulator forwards when the source is pulled, ours at once
    (letter,) = bench.pull(1, subscription=letters)
    assert letter.message.data == b"poison"
    assert letter.message.message_id != item.message.message_id
    published = letter.message.attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", published)
    assert dict(letter.message.attributes) == {
        "model": "digits",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "doomed",
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
    }


def test_an_ack_in_time_saves_a_message(bench, policy):
    doomed = bench.create_subscription("doomed", dead_letter_policy=policy)
    letters = bench.create_subscription("letters", topic=policy["dead_letter_topic"])
    bench.publish(b"a")
    for _ in range(4):
        bench.lease(0, *bench.pull(1, subscription=doomed), subscription=doomed)
    bench.ack(*bench.pull(1, subscription=doomed), subscription=doomed)
    assert bench.peek(subscription=doomed) == []
    assert bench.peek(subscription=letters) == []


def test_five_attempts_are_the_default(bench, policy):
    del policy["max_delivery_attempts"]
    doomed = bench.create_subscription("doomed", dead_letter_policy=policy)
    answer = bench.subscriber.get_subscription(subscription=doomed)
    assert answer.dead_letter_policy.max_delivery_attempts == 5


@pytest.mark.parametrize("attempts", [4, 101])
def test_attempts_are_5_to_100(bench, policy, attempts):
    with pytest.raises(OutOfRange):
        bench.create_subscription("doomed", dead_letter_policy={**policy, "max_delivery_attempts": attempts})


def test_the_dead_letter_topic_must_exist(bench, policy):
    policy["dead_letter_topic"] = bench.topic_path("missing")
    with pytest.raises(NotFound):
        bench.create_subscription("doomed", dead_letter_policy=policy)

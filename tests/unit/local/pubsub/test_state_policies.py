"""What a retry policy and a dead-letter policy do, with a clock of the test's own."""

import pytest

from lowtide.local.pubsub.resources import DeadLetterPolicy, RetryPolicy

OTHER_TOPIC = "projects/test/topics/dead-letters"
SUB = "projects/test/subscriptions/requests"
OTHER_SUB = "projects/test/subscriptions/others"


def test_backoff_doubles_from_the_minimum_to_the_maximum(make_bench):
    bench = make_bench(retry=RetryPolicy(minimum_backoff_s=10.0, maximum_backoff_s=30.0))
    bench.publish("a")
    for backoff_s in (10, 20, 30, 30):
        bench.lease(bench.pull()[0], 0)
        bench.wait(backoff_s - 1)
        assert bench.pull() == [], backoff_s
        bench.wait(1)
    assert bench.texts() == ["a"]


def test_an_expired_lease_backs_off_too_and_a_late_ack_still_counts(make_bench):
    bench = make_bench(retry=RetryPolicy(minimum_backoff_s=10.0))
    bench.publish("a")
    delivery = bench.pull()[0]
    bench.wait(10)
    assert bench.pull() == []
    bench.ack(delivery)
    bench.wait(600)
    assert bench.pull() == []


@pytest.fixture
def doomed(make_bench):
    bench = make_bench(dead_letter=DeadLetterPolicy(topic=OTHER_TOPIC))
    bench.subscribe(OTHER_SUB, topic=OTHER_TOPIC)
    return bench


def test_the_fifth_failed_delivery_is_the_last_and_the_letter_says_where_from(doomed):
    (original_id,) = doomed.publish("a")
    attempts = []
    for _ in range(4):
        attempts.append(doomed.pull()[0].attempt)
        doomed.wait(10)
    last = doomed.pull()[0]
    doomed.lease(last, 0)
    assert [*attempts, last.attempt] == [1, 2, 3, 4, 5]
    assert doomed.pull() == []
    assert doomed.state.undelivered()[SUB] == 0
    letter = doomed.pull(name=OTHER_SUB)[0]
    assert letter.message.content.data == b"a"
    assert letter.message.message_id != original_id
    assert letter.message.content.attributes == {
        "CloudPubSubDeadLetterSourceSubscription": "requests",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "test",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2027-01-15T08:00:00.000Z",
    }


def test_a_letter_is_sent_by_time_alone_and_wakes_its_readers(doomed):
    doomed.publish("a")
    for _ in range(5):
        doomed.pull()
        doomed.state.drain_woken()
        doomed.wait(10)
    assert OTHER_SUB in doomed.state.drain_woken()
    assert doomed.texts(name=OTHER_SUB) == ["a"]


def test_without_its_dead_letter_topic_a_message_is_delivered_again(doomed):
    doomed.publish("a")
    doomed.state.delete_topic(OTHER_TOPIC)
    for attempt in range(1, 8):
        delivery = doomed.pull()[0]
        assert delivery.attempt == attempt
        doomed.lease(delivery, 0)


def test_attempts_are_not_counted_aloud_without_a_policy(bench):
    bench.publish("a")
    assert bench.pull()[0].attempt == 0

"""The state with a clock of the test's own: no thread, no socket, no waiting."""

import pytest

from lowtide.local.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted
from lowtide.local.pubsub.resources import TopicConfig
from lowtide.local.pubsub.state import RESPONSE_MAX_BYTES, PubsubState
from lowtide.local.pubsub.subscription import Holder

TOPIC = "projects/test/topics/requests"
OTHER_TOPIC = "projects/test/topics/dead-letters"
SUB = "projects/test/subscriptions/requests"
OTHER_SUB = "projects/test/subscriptions/others"
DAY_S = 86_400


def test_what_was_acknowledged_never_comes_back(bench):
    bench.publish("a", "b")
    first, _ = bench.pull()
    bench.ack(first)
    bench.wait(10)
    assert bench.texts() == ["b"]
    assert bench.state.undelivered()[SUB] == 1


def test_messages_come_in_the_order_of_publishing_and_never_more_than_asked(bench):
    bench.publish(*"abcde")
    assert bench.texts(2) == ["a", "b"]
    assert bench.texts(9) == ["c", "d", "e"]


def test_a_lease_ends_at_its_deadline_and_not_before(bench):
    bench.publish("a")
    first = bench.pull()[0]
    bench.wait(9.99)
    assert bench.pull() == []
    bench.wait(0.01)
    second = bench.pull()[0]
    assert second.message.message_id == first.message.message_id
    assert second.ack_id != first.ack_id


def test_expired_messages_come_back_before_newer_ones_in_their_old_order(bench):
    bench.publish("a", "b")
    bench.pull()
    bench.publish("c")
    bench.wait(10)
    assert bench.texts() == ["a", "b", "c"]


def test_an_extended_lease_counts_from_the_extension_and_may_shorten(bench):
    bench.publish("a")
    delivery = bench.pull()[0]
    bench.wait(9)
    bench.lease(delivery, 60)
    bench.wait(59)
    assert bench.pull() == []
    bench.lease(delivery, 10)
    bench.wait(10)
    assert bench.texts() == ["a"]


def test_a_nack_hands_back_at_once(bench):
    bench.publish("a")
    bench.lease(bench.pull()[0], 0)
    assert bench.texts() == ["a"]


def test_a_late_ack_counts_until_the_next_delivery_and_then_does_nothing(bench):
    bench.publish("a", "b")
    in_time, too_late = bench.pull()
    bench.wait(11)
    bench.ack(in_time)
    assert bench.texts() == ["b"]
    bench.ack(too_late)
    bench.lease(too_late, 0)
    assert bench.texts() == []
    assert bench.state.undelivered()[SUB] == 1


def test_an_expired_lease_cannot_be_extended(bench):
    bench.publish("a")
    delivery = bench.pull()[0]
    bench.wait(11)
    bench.lease(delivery, 60)
    assert bench.texts() == ["a"]


@pytest.mark.parametrize("ack_id", ["bogus", "", f"{SUB}:x", f"{OTHER_SUB}:1"])
def test_an_ack_id_that_was_never_issued_here_is_refused_and_nothing_is_acknowledged(bench, ack_id):
    bench.publish("a")
    good = bench.pull()[0].ack_id
    with pytest.raises(InvalidArgument, match="(?i)ack id"):
        bench.state.acknowledge(SUB, [good, ack_id], now_s=bench.now_s)
    assert bench.state.undelivered()[SUB] == 1


def test_undelivered_counts_what_waits_and_what_is_held(bench):
    bench.publish("a", "b", "c")
    bench.pull(2)
    assert bench.state.undelivered()[SUB] == 3


def test_undelivered_is_known_of_every_subscription_until_it_is_deleted(bench):
    bench.subscribe("projects/other/subscriptions/idle")
    bench.publish("a")
    bench.ack(*bench.pull())
    bench.publish("b")
    assert bench.state.undelivered() == {SUB: 1, "projects/other/subscriptions/idle": 2}
    bench.state.delete_subscription(SUB)
    assert bench.state.undelivered() == {"projects/other/subscriptions/idle": 2}


def test_each_subscription_gets_a_copy_and_new_ones_start_empty(bench):
    bench.publish("early")
    bench.subscribe(OTHER_SUB)
    bench.publish("late")
    assert bench.texts() == ["early", "late"]
    assert bench.texts(name=OTHER_SUB) == ["late"]


def test_old_messages_are_dropped_whether_held_or_not(make_bench):
    bench = make_bench(retention_s=600.0, ack_deadline_s=600)
    bench.publish("held")
    held = bench.pull()[0]
    bench.publish("waiting")
    bench.wait(600)
    assert bench.state.undelivered()[SUB] == 0
    bench.ack(held)
    assert bench.pull() == []


def test_a_dropped_message_frees_its_memory_though_nobody_pulls(make_bench, traced_bytes):
    bench = make_bench(retention_s=600.0)
    bench.publish("x" * 1_000_000)
    assert traced_bytes() > 1_000_000
    bench.wait(600)
    assert traced_bytes() < 100_000


def test_a_subscription_that_nobody_uses_expires(make_bench):
    bench = make_bench(expires_after_s=float(DAY_S))
    bench.wait(DAY_S - 1)
    bench.pull()
    bench.wait(DAY_S - 1)
    assert bench.state.subscription(SUB)
    bench.wait(1)
    with pytest.raises(NotFound):
        bench.state.subscription(SUB)
    assert bench.state.topic_subscriptions(TOPIC) == []


def test_one_answer_stays_below_what_a_client_receives_but_a_large_message_passes(bench):
    bench.publish("x" * 2_000_000, "y" * 2_000_000, "z" * 9_000_000)
    assert [len(text) for text in bench.texts()] == [2_000_000]
    assert [len(text) for text in bench.texts()] == [2_000_000]
    assert [len(text) for text in bench.texts()] == [9_000_000]
    assert RESPONSE_MAX_BYTES < 4 * 1024 * 1024


@pytest.mark.parametrize("limit", [{"max_messages": 2}, {"max_bytes": 11}])
def test_a_stream_gets_no_more_than_it_asked_for_until_it_acknowledges(bench, limit):
    bench.publish(*("x" * 10 for _ in range(5)))
    holder = Holder(**limit)
    held = bench.pull(holder=holder)
    assert len(held) == 2
    assert bench.pull(holder=holder) == []
    bench.state.drain_woken()
    bench.ack(held[0])
    assert SUB in bench.state.drain_woken()
    assert len(bench.pull(holder=holder)) == 1
    bench.wait(10)
    assert (holder.messages, holder.bytes) == (0, 0)


def test_publishing_and_expiry_wake_those_who_wait_and_nobody_else(bench):
    bench.subscribe(OTHER_SUB, topic=OTHER_TOPIC)
    bench.publish("a")
    assert bench.state.drain_woken() == {SUB}
    bench.pull()
    bench.wait(9)
    assert bench.state.drain_woken() == set()
    bench.wait(1)
    assert bench.state.drain_woken() == {SUB}


def test_deleting_a_topic_leaves_its_subscriptions_with_what_they_hold(bench):
    bench.publish("a")
    bench.state.delete_topic(TOPIC)
    assert bench.state.subscription(SUB).topic == "_deleted-topic_"
    assert bench.texts() == ["a"]
    bench.state.create_topic(TopicConfig(name=TOPIC))
    bench.publish("b")
    assert bench.texts() == []


def test_a_full_server_refuses_and_recovers(bench):
    bench.state = state = PubsubState(held_max_bytes=100)
    state.create_topic(TopicConfig(name=TOPIC))
    for name in (SUB, OTHER_SUB):
        bench.subscribe(name)
    bench.publish("x" * 40)
    with pytest.raises(ResourceExhausted, match="80 bytes"):
        bench.publish("x" * 40)
    for name in (SUB, OTHER_SUB):
        bench.ack(*bench.pull(name=name), name=name)
    bench.publish("x" * 40)


def test_timers_of_acknowledged_messages_do_not_pile_up(make_bench, traced_bytes):
    bench = make_bench(ack_deadline_s=600)
    after_bytes = []
    for _ in range(4):
        for _ in range(4):
            bench.publish(*("x" for _ in range(1000)))
            bench.ack(*bench.pull())
        after_bytes.append(traced_bytes())
    assert after_bytes[-1] < 1.5 * after_bytes[0]


def test_a_shorter_retention_holds_for_what_is_kept_already(bench):
    bench.publish("a")
    config = bench.state.subscription(SUB)
    bench.state.update_subscription(type(config)(name=config.name, topic=config.topic, retention_s=600.0))
    bench.wait(600)
    assert bench.pull() == []


def test_names_are_taken_once_and_missing_ones_are_named(bench):
    with pytest.raises(AlreadyExists, match=TOPIC):
        bench.state.create_topic(TopicConfig(name=TOPIC))
    with pytest.raises(AlreadyExists, match=SUB):
        bench.subscribe(SUB)
    with pytest.raises(NotFound, match=OTHER_SUB):
        bench.pull(name=OTHER_SUB)
    bench.state.delete_subscription(SUB)
    with pytest.raises(NotFound, match=SUB):
        bench.pull()

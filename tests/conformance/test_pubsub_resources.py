"""Topics and subscriptions: create, get, list, update, delete."""

from datetime import timedelta

import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, MethodNotImplemented, NotFound
from google.protobuf.field_mask_pb2 import FieldMask


def test_a_topic_is_what_its_creator_said(bench):
    topic = bench.create_topic("labelled", labels={"team": "tide"})
    assert dict(bench.publisher.get_topic(topic=topic).labels) == {"team": "tide"}


def test_a_subscription_has_the_defaults_of_the_service(bench):
    answer = bench.subscriber.get_subscription(subscription=bench.subscription)
    assert (answer.name, answer.topic) == (bench.subscription, bench.topic)
    assert answer.ack_deadline_seconds == 10
    assert answer.message_retention_duration == timedelta(days=7)


def test_a_subscription_is_what_its_creator_said(bench):
    settings = {
        "ack_deadline_seconds": 60,
        "message_retention_duration": timedelta(hours=1),
        "labels": {"team": "tide"},
        "retry_policy": {"minimum_backoff": timedelta(seconds=15), "maximum_backoff": timedelta(seconds=90)},
        "expiration_policy": {"ttl": timedelta(days=1)},
        "retain_acked_messages": True,
    }
    answer = bench.subscriber.get_subscription(subscription=bench.create_subscription("special", **settings))
    assert answer.ack_deadline_seconds == 60
    assert answer.message_retention_duration == timedelta(hours=1)
    assert dict(answer.labels) == {"team": "tide"}
    assert answer.retry_policy.minimum_backoff == timedelta(seconds=15)
    assert answer.retry_policy.maximum_backoff == timedelta(seconds=90)
    assert answer.expiration_policy.ttl == timedelta(days=1)
    assert answer.retain_acked_messages


def test_an_empty_retry_policy_means_10_to_600_s_and_an_empty_expiration_policy_never(bench):
    answer = bench.subscriber.get_subscription(
        subscription=bench.create_subscription("special", retry_policy={}, expiration_policy={})
    )
    assert answer.retry_policy.minimum_backoff == timedelta(seconds=10)
    assert answer.retry_policy.maximum_backoff == timedelta(seconds=600)
    assert "expiration_policy" in answer
    assert not answer.expiration_policy.ttl


def test_a_name_is_taken_once(bench):
    with pytest.raises(AlreadyExists):
        bench.create_topic("requests")
    with pytest.raises(AlreadyExists):
        bench.create_subscription("requests")


def test_a_subscription_needs_its_topic(bench):
    with pytest.raises(NotFound):
        bench.create_subscription("orphan", topic=bench.topic_path("missing"))


def test_lists_hold_one_project_in_order_and_come_in_pages(bench):
    topics = sorted([bench.topic, *(bench.create_topic(f"topic-{number}") for number in range(4))])
    subs = sorted([bench.subscription, *(bench.create_subscription(f"sub-{number}") for number in range(4))])
    elsewhere = bench.create_subscription("elsewhere", topic=topics[-1])

    def names(pager):
        return [getattr(item, "name", item) for item in pager]

    for page_size in (0, 2):
        request = {"project": bench.project_path, "page_size": page_size}
        assert names(bench.publisher.list_topics(request=request)) == topics
        assert names(bench.subscriber.list_subscriptions(request=request)) == sorted([*subs, elsewhere])
        request = {"topic": bench.topic, "page_size": page_size}
        assert names(bench.publisher.list_topic_subscriptions(request=request)) == subs


def test_a_deleted_topic_leaves_its_subscriptions_with_what_they_hold(bench):
    bench.publish(b"a")
    bench.publisher.delete_topic(topic=bench.topic)
    assert bench.subscriber.get_subscription(subscription=bench.subscription).topic == "_deleted-topic_"
    assert [item.message.data for item in bench.pull(1)] == [b"a"]
    with pytest.raises(NotFound):
        bench.publish(b"b")
    bench.create_topic("requests")
    bench.publish(b"b")
    assert bench.peek() == []


def test_a_deleted_subscription_is_gone_with_what_it_held(bench):
    bench.publish(b"a")
    bench.subscriber.delete_subscription(subscription=bench.subscription)
    with pytest.raises(NotFound):
        bench.subscriber.get_subscription(subscription=bench.subscription)
    bench.create_subscription("requests")
    assert bench.peek() == []


def test_deleting_or_getting_what_is_missing_is_not_found(bench):
    topic, sub = bench.topic_path("missing"), bench.subscription_path("missing")
    for attempt in (
        lambda: bench.publisher.get_topic(topic=topic),
        lambda: bench.publisher.delete_topic(topic=topic),
        lambda: bench.subscriber.get_subscription(subscription=sub),
        lambda: bench.subscriber.delete_subscription(subscription=sub),
        lambda: update(bench, ["labels"], name=sub),
    ):
        with pytest.raises(NotFound):
            attempt()


def update(bench, paths, **subscription):
    request = {"subscription": {"name": bench.subscription, **subscription}, "update_mask": FieldMask(paths=paths)}
    return bench.subscriber.update_subscription(request=request)


def test_an_update_changes_what_its_mask_names_and_nothing_else(bench):
    retention = timedelta(hours=2)
    update(bench, ["ack_deadline_seconds"], ack_deadline_seconds=120, message_retention_duration=timedelta(hours=1))
    answer = update(bench, ["message_retention_duration"], message_retention_duration=retention)
    assert answer == bench.subscriber.get_subscription(subscription=bench.subscription)
    assert answer.ack_deadline_seconds == 120
    assert answer.message_retention_duration == retention


def test_labels_can_be_updated(bench):
    """A documented difference: the emulator knows labels, but not that they can change."""
    if bench.kind == "emulator":
        with pytest.raises(InvalidArgument):
            update(bench, ["labels"], labels={"team": "tide"})
        return
    assert dict(update(bench, ["labels"], labels={"team": "tide"}).labels) == {"team": "tide"}
    request = {"topic": {"name": bench.topic, "labels": {"team": "ebb"}}, "update_mask": FieldMask(paths=["labels"])}
    assert dict(bench.publisher.update_topic(request=request).labels) == {"team": "ebb"}


@pytest.mark.parametrize("paths", [[], ["nonsense"], ["name"], ["topic"]], ids=str)
def test_an_update_mask_that_makes_no_sense_is_refused(bench, paths):
    with pytest.raises(InvalidArgument):
        update(bench, paths)


@pytest.mark.parametrize(
    "settings",
    [
        {"filter": 'attributes.model = "digits"'},
        {"enable_message_ordering": True},
        {"enable_exactly_once_delivery": True},
        {"push_config": {"push_endpoint": "http://127.0.0.1:9/push"}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_ours_refuses_what_it_does_not_do(bench, settings):
    """A documented difference: the emulator takes these, though it never applies a filter or exactly-once."""
    if bench.kind == "emulator":
        bench.create_subscription("special", **settings)
    else:
        with pytest.raises(MethodNotImplemented, match=next(iter(settings))):
            bench.create_subscription("special", **settings)

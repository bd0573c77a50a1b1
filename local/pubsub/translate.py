"""Between the protobuf messages of google.pubsub.v1 and our own types.

Plain protobuf classes, which proto-plus keeps under `.pb()`: its wrappers cost more than everything else on the way.
"""

from collections.abc import Iterable
from typing import Any

from google.pubsub_v1 import types

from lowtide.local.errors import InvalidArgument, Unsupported
from lowtide.local.pubsub.resources import (
    Content,
    DeadLetterPolicy,
    Delivery,
    RetryPolicy,
    SubscriptionConfig,
    TopicConfig,
)
from lowtide.local.wire import Protobuf, check_supported

TopicPb = types.Topic.pb()
SubscriptionPb = types.Subscription.pb()

# Fields that only others set, or that change nothing here: only seek, which does not exist here, would look at them.
_TOPIC_HARMLESS = {"state", "satisfies_pzs", "tags"}
_SUBSCRIPTION_HARMLESS = {"state", "topic_message_retention_duration", "tags"}
_TOPIC_KNOWN = {"name", "labels", "message_retention_duration"}
_SUBSCRIPTION_FIELDS = {
    "ack_deadline_seconds": "ack_deadline_s",
    "dead_letter_policy": "dead_letter",
    "expiration_policy": "expires_after_s",
    "labels": "labels",
    "message_retention_duration": "retention_s",
    "name": "name",
    "retain_acked_messages": "retain_acked",
    "retry_policy": "retry",
    "topic": "topic",
}
_TOPIC_FIELDS = {"labels": "labels", "message_retention_duration": "retention_s", "name": "name"}
_IMMUTABLE = {"name", "topic"}


def content_from(message: Protobuf) -> Content:
    """What a publisher sends."""
    return Content(message.data, dict(message.attributes), message.ordering_key)


def fill_received(received: Protobuf, deliveries: Iterable[Delivery]) -> None:
    """Append deliveries to the repeated field of an answer."""
    for delivery in deliveries:
        message, item = delivery.message, received.add()
        item.ack_id = delivery.ack_id
        item.delivery_attempt = delivery.attempt
        target = item.message
        target.data = message.content.data
        target.message_id = message.message_id
        target.ordering_key = message.content.ordering_key
        target.attributes.update(message.content.attributes)
        seconds, rest_s = divmod(message.published_s, 1)
        target.publish_time.seconds = int(seconds)
        target.publish_time.nanos = int(rest_s * 1_000_000) * 1000


def topic_from(topic: Protobuf) -> TopicConfig:
    """A topic to create. Raises Unsupported for what this server would have to ignore."""
    check_supported(topic, _TOPIC_KNOWN | _TOPIC_HARMLESS, "a topic's", service="pubsub")
    retention_s = _seconds(topic.message_retention_duration) if topic.HasField("message_retention_duration") else None
    return TopicConfig(name=topic.name, labels=dict(topic.labels), retention_s=retention_s)


def topic_to(config: TopicConfig) -> Protobuf:
    """A topic to answer with."""
    retention = {} if config.retention_s is None else {"message_retention_duration": _duration(config.retention_s)}
    return TopicPb(name=config.name, labels=config.labels, **retention)


def subscription_from(subscription: Protobuf) -> SubscriptionConfig:
    """A subscription to create. Raises Unsupported for what this server would have to ignore."""
    _check_subscription_supported(subscription)
    chosen: dict[str, Any] = {}
    if subscription.ack_deadline_seconds:
        chosen["ack_deadline_s"] = subscription.ack_deadline_seconds
    if subscription.HasField("message_retention_duration"):
        chosen["retention_s"] = _seconds(subscription.message_retention_duration)
    if subscription.HasField("expiration_policy"):
        policy = subscription.expiration_policy
        chosen["expires_after_s"] = _seconds(policy.ttl) if policy.HasField("ttl") else None
    return SubscriptionConfig(
        name=subscription.name,
        topic=subscription.topic,
        labels=dict(subscription.labels),
        retain_acked=subscription.retain_acked_messages,
        retry=_retry_from(subscription),
        dead_letter=_dead_letter_from(subscription),
        **chosen,
    )


def subscription_to(config: SubscriptionConfig) -> Protobuf:
    """A subscription to answer with."""
    policies: dict[str, Any] = {}
    if retry := config.retry:
        policies["retry_policy"] = {
            "minimum_backoff": _duration(retry.minimum_backoff_s),
            "maximum_backoff": _duration(retry.maximum_backoff_s),
        }
    if dead_letter := config.dead_letter:
        policies["dead_letter_policy"] = {
            "dead_letter_topic": dead_letter.topic,
            "max_delivery_attempts": dead_letter.max_delivery_attempts,
        }
    return SubscriptionPb(
        name=config.name,
        topic=config.topic,
        labels=config.labels,
        ack_deadline_seconds=config.ack_deadline_s,
        retain_acked_messages=config.retain_acked,
        message_retention_duration=_duration(config.retention_s),
        expiration_policy={"ttl": _duration(config.expires_after_s)} if config.expires_after_s else {},
        state=int(types.Subscription.State.ACTIVE),
        **policies,
    )


def topic_changes(mask: Iterable[str]) -> list[str]:
    """Attributes of TopicConfig that an update mask names. Raises InvalidArgument."""
    return _changes(mask, _TOPIC_FIELDS, TopicPb)


def subscription_changes(mask: Iterable[str]) -> list[str]:
    """Attributes of SubscriptionConfig that an update mask names. Raises InvalidArgument, Unsupported."""
    return _changes(mask, _SUBSCRIPTION_FIELDS, SubscriptionPb)


def _changes(mask: Iterable[str], ours: dict[str, str], protobuf: Protobuf) -> list[str]:
    paths = list(mask)
    if not paths:
        raise InvalidArgument("The update_mask must be set, and must name at least one field")
    for path in paths:
        if path in _IMMUTABLE and path in protobuf.DESCRIPTOR.fields_by_name:
            raise InvalidArgument(f"Invalid update_mask: the field {path} is not mutable")
        if path.partition(".")[0] not in protobuf.DESCRIPTOR.fields_by_name:
            raise InvalidArgument(f"Invalid update_mask: {path} is not a known field")
        if path not in ours:
            raise Unsupported(
                f"lowtide.local.pubsub cannot update {path}, only {', '.join(sorted(set(ours) - _IMMUTABLE))}"
            )
    return [ours[path] for path in paths]


def _check_subscription_supported(subscription: Protobuf) -> None:
    ignorable = set(_SUBSCRIPTION_FIELDS) | _SUBSCRIPTION_HARMLESS
    if not subscription.push_config.push_endpoint:
        ignorable.add("push_config")  # an empty one says "pull"
    check_supported(subscription, ignorable, "a subscription's", service="pubsub")


def _retry_from(subscription: Protobuf) -> RetryPolicy | None:
    if not subscription.HasField("retry_policy"):
        return None
    policy, chosen = subscription.retry_policy, {}
    if policy.HasField("minimum_backoff"):
        chosen["minimum_backoff_s"] = _seconds(policy.minimum_backoff)
    if policy.HasField("maximum_backoff"):
        chosen["maximum_backoff_s"] = _seconds(policy.maximum_backoff)
    return RetryPolicy(**chosen)


def _dead_letter_from(subscription: Protobuf) -> DeadLetterPolicy | None:
    if not subscription.HasField("dead_letter_policy"):
        return None
    policy = subscription.dead_letter_policy
    # 0 is "not set", for which the service takes 5.
    return DeadLetterPolicy(topic=policy.dead_letter_topic, max_delivery_attempts=policy.max_delivery_attempts or 5)


def _seconds(duration: Protobuf) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def _duration(seconds: float) -> dict[str, int]:
    """As protobuf constructors take a google.protobuf.Duration."""
    return {"seconds": int(seconds), "nanos": int(seconds % 1 * 1e9)}

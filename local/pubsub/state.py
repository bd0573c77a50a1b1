"""`PubsubState`: topics, their subscriptions, and what waits in them. No clock, no thread, no socket."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from lowtide.local.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted
from lowtide.local.pubsub import limits
from lowtide.local.pubsub.resources import (
    DELETED_TOPIC,
    Content,
    Delivery,
    Message,
    SubscriptionConfig,
    TopicConfig,
)
from lowtide.local.pubsub.subscription import Change, Entry, Holder, Subscription

HELD_MAX_BYTES = 2_000_000_000
RESPONSE_MAX_BYTES = 3_500_000
"""What one answer to a pull holds at most: a client of an emulator receives no more than 4 MiB at once by default."""

PULL_MAX_MESSAGES = 1000


@dataclass(slots=True)
class _Topic:
    config: TopicConfig
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class PubsubState:
    """Every method takes `now_s`, seconds since 1970, where time matters. Names are full names.

    `first_message_id` must be above every id that an earlier server gave out, or deduplication by message id takes new
    messages for old ones. Every method raises NotFound for a missing name and InvalidArgument for a broken rule.
    """

    def __init__(self, *, first_message_id: int = 1, held_max_bytes: int = HELD_MAX_BYTES) -> None:
        self._topics: dict[str, _Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._message_ids = itertools.count(first_message_id)
        self._held_max_bytes = held_max_bytes
        self._woken: set[str] = set()

    def drain_woken(self) -> set[str]:
        """Subscriptions whose waiting pulls should look again, since the last call."""
        woken, self._woken = self._woken, set()
        return woken

    def undelivered(self) -> dict[str, int]:
        """Messages that nobody has acknowledged yet, as `num_undelivered_messages` counts, by subscription."""
        return {name: subscription.undelivered for name, subscription in self._subscriptions.items()}

    # Topics

    def create_topic(self, config: TopicConfig) -> TopicConfig:
        """Raises AlreadyExists."""
        limits.check_topic(config)
        if config.name in self._topics:
            raise AlreadyExists(f"Topic already exists: {config.name}")
        self._topics[config.name] = _Topic(config)
        return config

    def update_topic(self, config: TopicConfig) -> TopicConfig:
        """Replace a topic's settings."""
        limits.check_topic(config)
        self._topic(config.name).config = config
        return config

    def topic(self, name: str) -> TopicConfig:
        """A topic's settings."""
        return self._topic(name).config

    def topics(self, project: str) -> list[TopicConfig]:
        """Those of `projects/<project>`, by name."""
        limits.check_project(project)
        return [self._topics[name].config for name in _of_project(self._topics, project)]

    def topic_subscriptions(self, topic: str) -> list[str]:
        """Names of the subscriptions of a topic, in order."""
        return sorted(self._topic(topic).subscriptions)

    def delete_topic(self, name: str) -> None:
        """Its subscriptions live on with what they hold, and their topic reads `_deleted-topic_`."""
        for subscription in self._topic(name).subscriptions.values():
            subscription.config = replace(subscription.config, topic=DELETED_TOPIC)
        del self._topics[name]

    def publish(self, topic: str, contents: Sequence[Content], *, now_s: float) -> list[str]:
        """Message ids, in order. All or none is taken. Raises ResourceExhausted when the server is full."""
        target = self._topic(topic)
        limits.check_contents(contents)
        messages = [self._message(content, now_s) for content in contents]
        self._check_room(messages, copies=len(target.subscriptions))
        for name, subscription in target.subscriptions.items():
            for message in messages:
                subscription.add(message)
            self._woken.add(name)
        return [message.message_id for message in messages]

    # Subscriptions

    def create_subscription(self, config: SubscriptionConfig, *, now_s: float) -> SubscriptionConfig:
        """Raises AlreadyExists; NotFound also for a missing topic or dead-letter topic."""
        limits.check_subscription(config)
        if config.name in self._subscriptions:
            raise AlreadyExists(f"Subscription already exists: {config.name}")
        topic = self._topic(config.topic, what="Subscription topic does not exist")
        self._check_dead_letter_topic(config)
        subscription = Subscription(config, now_s=now_s)
        self._subscriptions[config.name] = topic.subscriptions[config.name] = subscription
        return config

    def update_subscription(self, config: SubscriptionConfig) -> SubscriptionConfig:
        """Replace a subscription's settings."""
        limits.check_subscription(config)
        self._check_dead_letter_topic(config)
        self._subscription(config.name).reconfigure(config)
        return config

    def subscription(self, name: str) -> SubscriptionConfig:
        """A subscription's settings."""
        return self._subscription(name).config

    def subscriptions(self, project: str) -> list[SubscriptionConfig]:
        """Those of `projects/<project>`, by name."""
        limits.check_project(project)
        return [self._subscriptions[name].config for name in _of_project(self._subscriptions, project)]

    def delete_subscription(self, name: str) -> None:
        """Forget it and what it holds."""
        config = self._subscription(name).config
        del self._subscriptions[name]
        if config.topic in self._topics:
            self._topics[config.topic].subscriptions.pop(name, None)
        self._woken.add(name)  # a waiting pull has to learn that there is nothing to wait for

    # Messages

    def pull(
        self,
        subscription: str,
        *,
        max_messages: int,
        now_s: float,
        lease_s: float | None = None,
        holder: Holder | None = None,
    ) -> list[Delivery]:
        """Lease what is ready, for `lease_s` or else the subscription's own deadline."""
        source = self._subscription(subscription)
        if max_messages < 1:
            raise InvalidArgument(f"Invalid max_messages: {max_messages}, expected 1 or more")
        self._carry_out(source, source.tick(now_s=now_s), now_s=now_s)
        return source.take(
            min(max_messages, PULL_MAX_MESSAGES),
            max_bytes=RESPONSE_MAX_BYTES,
            lease_s=source.config.ack_deadline_s if lease_s is None else lease_s,
            now_s=now_s,
            holder=holder,
        )

    def acknowledge(self, subscription: str, ack_ids: Sequence[str], *, now_s: float) -> None:
        """Forget messages; late is not too late until the next delivery."""
        target = self._subscription(subscription)
        limits.check_ack_ids(ack_ids)
        self._carry_out(target, target.acknowledge(ack_ids, now_s=now_s), now_s=now_s)

    def modify_deadline(self, subscription: str, ack_ids: Sequence[str], *, lease_s: int, now_s: float) -> None:
        """Let leases end in `lease_s`; 0 hands messages back at once."""
        target = self._subscription(subscription)
        limits.check_ack_ids(ack_ids)
        limits.check_lease(lease_s)
        self._carry_out(target, target.extend(ack_ids, lease_s=lease_s, now_s=now_s), now_s=now_s)

    def tick(self, *, now_s: float) -> None:
        """Do everything that has become due."""
        for name, subscription in list(self._subscriptions.items()):
            self._carry_out(subscription, subscription.tick(now_s=now_s), now_s=now_s)
            ttl_s = subscription.config.expires_after_s
            if ttl_s is not None and subscription.used_s + ttl_s <= now_s:
                self.delete_subscription(name)

    def _carry_out(self, subscription: Subscription, change: Change, *, now_s: float) -> None:
        if change.woken:
            self._woken.add(subscription.config.name)
        for entry in change.dead:
            self._bury(subscription, entry, now_s=now_s)

    def _bury(self, subscription: Subscription, entry: Entry, *, now_s: float) -> None:
        """Publish to the dead-letter topic. While that is missing the message is delivered again, as Google does."""
        assert subscription.config.dead_letter
        topic = self._topics.get(subscription.config.dead_letter.topic)
        if topic is None:
            return
        letter = self._message(_dead_letter(subscription.config, entry), now_s)
        subscription.remove(entry)
        for name, target in topic.subscriptions.items():
            target.add(letter)
            self._woken.add(name)

    def _message(self, content: Content, now_s: float) -> Message:
        return Message(content, str(next(self._message_ids)), now_s, content.size_bytes)

    def _check_room(self, messages: Iterable[Message], *, copies: int) -> None:
        wanted_bytes = copies * sum(message.size_bytes for message in messages)
        held_bytes = sum(subscription.held_bytes for subscription in self._subscriptions.values())
        if held_bytes + wanted_bytes > self._held_max_bytes:
            raise ResourceExhausted(
                f"This server holds {held_bytes} bytes that nobody has acknowledged, of {self._held_max_bytes}: "
                "acknowledge messages, or delete subscriptions that nobody reads"
            )

    def _check_dead_letter_topic(self, config: SubscriptionConfig) -> None:
        if config.dead_letter:
            self._topic(config.dead_letter.topic, what="Dead letter topic not found")

    def _topic(self, name: str, *, what: str = "Topic not found") -> _Topic:
        if topic := self._topics.get(name):
            return topic
        limits.check_name(name, kind="topics")
        raise NotFound(f"{what}: {name}")

    def _subscription(self, name: str) -> Subscription:
        if subscription := self._subscriptions.get(name):
            return subscription
        limits.check_name(name, kind="subscriptions")
        raise NotFound(f"Subscription does not exist: {name}")


def _of_project(names: Iterable[str], project: str) -> list[str]:
    return sorted(name for name in names if name.startswith(f"{project}/"))


def _dead_letter(config: SubscriptionConfig, entry: Entry) -> Content:
    content = entry.message.content
    _, project, _, name = config.name.split("/")
    published = datetime.fromtimestamp(entry.message.published_s, UTC).isoformat(timespec="milliseconds")
    source = {
        "CloudPubSubDeadLetterSourceSubscription": name,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceDeliveryCount": str(entry.attempts),
        "CloudPubSubDeadLetterSourceTopicPublishTime": published.replace("+00:00", "Z"),
    }
    return Content(content.data, {**content.attributes, **source}, content.ordering_key)

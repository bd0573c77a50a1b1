"""Topics and subscriptions: which ones a fleet needs, what is missing, and making it.

With several subscriptions, the last one listens to LOWTIDE_TOPIC and each more urgent one to a topic of its own name:
two subscriptions of one topic would get every request twice.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound, RetryError
from google.api_core.retry import Retry
from google.pubsub_v1 import PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from redis import RedisError

from lowtide.bridge.held.held import LEASE_S
from lowtide.bridge.held.records import forget_subscription
from lowtide.bridge.pubsub.client import CALL_S, Pb, Pubsub, PubsubRefused, error_of
from lowtide.config import Settings
from lowtide.tasks.errors import LowtideError
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.trouble import trouble_of

log = logging.getLogger(__name__)

RETENTION_S = 7 * 24 * 3600


class PubsubMissing(LowtideError):
    """Raised when topics or subscriptions are missing. The message names them and the command that makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Full names. `subscriptions`: subscription → its topic, needed to run; `keepers`: likewise, only made, so that
    what is published before anybody reads is kept.
    """

    topics: tuple[str, ...]
    subscriptions: dict[str, str]
    keepers: dict[str, str]


def wanted(settings: Settings) -> Wanted:
    """What the settings ask for. Raises SettingsError without a project."""
    *urgent, last = settings.subscription
    sources = {settings.subscription_path(name): settings.topic_path(_short(name)) for name in urgent}
    sources[settings.subscription_path(last)] = settings.topic_path(settings.topic)
    kept = {
        settings.subscription_path(_short(name)): settings.topic_path(name)
        for name in (settings.dead_letter_topic, settings.results_topic)
    }
    replies = [settings.topic_path(name) for name in settings.reply_topics]
    topics = dict.fromkeys([*sources.values(), *kept.values(), *replies])
    keepers = {name: topic for name, topic in kept.items() if name not in sources}
    return Wanted(topics=tuple(topics), subscriptions=sources, keepers=keepers)


def prepare(settings: Settings, *, create: bool) -> None:
    """What a bridge works with is there, or made. Of several subscriptions some are enough: they are to be served,
    whatever is wrong with the others. Raises PubsubMissing, PubsubError.
    """
    try:
        (create_missing if create else check_exists)(settings)
    except (PubsubMissing, PubsubRefused) as error:
        if not _serves_some(settings):
            raise
        log.warning("not every subscription can be served: %s", error)


def check_exists(settings: Settings) -> None:
    """Raises PubsubMissing when a topic or a subscription that the bridge works with does not exist; PubsubError."""
    want = wanted(settings)
    with _admin() as admin:
        missing = [name for name in want.topics if not admin.has_topic(name)]
        missing += [name for name in want.subscriptions if not admin.has_subscription(name)]
    if missing:
        raise PubsubMissing(f"not there: {', '.join(missing)}. `lowtide bridge --create` makes what is missing")


def subscriptions_of(settings: Settings) -> dict[str, Pb]:
    """The subscriptions that the bridge pulls, by full name, as Pub/Sub has them. Raises PubsubError."""
    with _admin() as admin:
        return {name: admin.subscription(name) for name in wanted(settings).subscriptions}


def create_missing(settings: Settings) -> None:
    """Make the topics and subscriptions that are missing. What exists stays as it is. Raises PubsubError.

    Redis need not be there: it may hold records of an earlier subscription of the same name, which are dropped.
    """
    want = wanted(settings)
    with _admin() as admin:
        # Where results are kept is there before requests can come; and what is published to a topic before it has its
        # subscription is lost, so one follows the other at once.
        for subscription, topic in {**want.keepers, **want.subscriptions}.items():
            if not admin.has_subscription(subscription):
                # Before, so that no message can meet them.
                _forget(settings, subscription)
                _create_topic(admin, topic)
                admin.create_subscription(subscription, topic)
        for topic in want.topics:
            _create_topic(admin, topic)


def _create_topic(admin: "Admin", topic: str) -> None:
    if not admin.has_topic(topic):
        admin.create_topic(topic)


def _serves_some(settings: Settings) -> bool:
    want = wanted(settings)
    others = set(want.topics) - set(want.subscriptions.values())
    with _admin() as admin:
        there = [
            _is_there(admin.has_subscription, name) and _is_there(admin.has_topic, topic)
            for name, topic in want.subscriptions.items()
        ]
        return any(there) and not all(there) and all(map(admin.has_topic, others))


def _is_there(look: Callable[[str], bool], name: str) -> bool:
    try:
        return look(name)
    except PubsubRefused:
        return False


def _forget(settings: Settings, subscription: str) -> None:
    redis = connect(settings)
    try:
        forget_subscription(redis, Keys.of(settings), subscription)
    except RedisError as error:
        log.warning("can't look for records of an earlier %s: Redis: %s", subscription, trouble_of(error))
    finally:
        redis.close()


class Admin:
    """The few calls that are not on the hot path, by the library's own clients. What fails for the moment is tried
    again; with all its tries a call takes `CALL_S` at most.
    """

    def __init__(self, pubsub: Pubsub) -> None:
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=pubsub.channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=pubsub.channel))

    def has_topic(self, name: str) -> bool:
        """Whether the topic exists."""
        return _call(self._publisher.get_topic, {"topic": name}, unless=NotFound) is not None

    def has_subscription(self, name: str) -> bool:
        """Whether the subscription exists."""
        return _call(self._subscriber.get_subscription, {"subscription": name}, unless=NotFound) is not None

    def create_topic(self, name: str) -> None:
        """Make a topic. Somebody else may have made it meanwhile."""
        if _call(self._publisher.create_topic, {"name": name}, unless=AlreadyExists):
            log.info("created %s", name)

    def subscription(self, name: str) -> Pb:
        """The subscription as Pub/Sub has it. Raises PubsubRefused when there is none."""
        return types.Subscription.pb(_call(self._subscriber.get_subscription, {"subscription": name}))

    def delete_subscription(self, name: str) -> None:
        """Delete a subscription, if it is there."""
        _call(self._subscriber.delete_subscription, {"subscription": name}, unless=NotFound)

    def create_subscription(self, name: str, topic: str, *, expires_s: int | None = None) -> None:
        """Make a subscription as the bridge needs it: it never expires (unless `expires_s` after its last use) and has
        no dead-letter policy of Pub/Sub's, whose counter would burn on preemptions.
        """
        subscription = {
            "name": name,
            "topic": topic,
            "ack_deadline_seconds": LEASE_S,
            "message_retention_duration": timedelta(seconds=min(RETENTION_S, expires_s or RETENTION_S)),
            # Without a time to live: never.
            "expiration_policy": {"ttl": timedelta(seconds=expires_s)} if expires_s else {},
        }
        if _call(self._subscriber.create_subscription, subscription, unless=AlreadyExists):
            log.info("created %s of %s", name, topic)


def _call(
    method: Callable[..., Any], request: Mapping[str, Any], *, unless: type[GoogleAPICallError] | None = None
) -> Any:
    """What Pub/Sub answers; None when it is the error `unless`. Raises PubsubError."""
    ends_s = time.monotonic() + CALL_S

    def try_once() -> Any:
        # Not by the library's own `timeout`: a try in the last second before its end gets all of it once more.
        return method(request, retry=None, timeout=max(0.0, ends_s - time.monotonic()))

    try:
        return Retry(timeout=CALL_S)(try_once)()
    except RetryError as error:
        raise error_of(error.cause.errors[0]) from error
    except GoogleAPICallError as error:
        if unless and isinstance(error, unless):
            return None
        raise error_of(error.errors[0]) from error


@contextmanager
def _admin() -> Iterator[Admin]:
    pubsub = Pubsub()
    try:
        yield Admin(pubsub)
    finally:
        pubsub.close()


def _short(name: str) -> str:
    return name.rpartition("/")[2]

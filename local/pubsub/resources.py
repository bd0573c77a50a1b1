"""What passes between the wire and the state: small frozen types."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DELETED_TOPIC = "_deleted-topic_"
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Content:
    """What a publisher sends."""

    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    ordering_key: str = ""

    @property
    def size_bytes(self) -> int:
        """What counts against size limits."""
        pairs = sum(len(key) + len(value) for key, value in self.attributes.items())
        return len(self.data) + len(self.ordering_key) + pairs


@dataclass(frozen=True, slots=True)
class Message:
    """Content that was accepted. All subscriptions of a topic share one."""

    content: Content
    message_id: str
    published_s: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to a subscriber. `attempt` is 0 where no dead-letter policy counts."""

    ack_id: str
    message: Message
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Time between a nack or an expired lease and the next delivery, doubled each time."""

    minimum_backoff_s: float = 10.0
    maximum_backoff_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPolicy:
    """After so many deliveries without an ack, the message is published to `topic` instead."""

    topic: str
    max_delivery_attempts: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """A topic as its creator described it. `retention_s` is kept for show: only seek would use it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    retention_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionConfig:
    """A subscription as its creator described it. `expires_after_s` None: never."""

    name: str
    topic: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ack_deadline_s: int = 10
    retention_s: float = 7 * DAY_S
    expires_after_s: float | None = 31 * DAY_S
    retain_acked: bool = False
    retry: RetryPolicy | None = None
    dead_letter: DeadLetterPolicy | None = None

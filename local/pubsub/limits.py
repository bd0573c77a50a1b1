"""The limits of the real service, most of which Google's emulator does not check.

Numbers: https://cloud.google.com/pubsub/quotas#resource_limits and the comments in google/pubsub/v1/pubsub.proto.
Every `check_…` raises InvalidArgument (OutOfRange for delivery attempts) that says what came and what is allowed.
"""

import re
from collections.abc import Mapping, Sequence

from lowtide.local.errors import InvalidArgument, OutOfRange
from lowtide.local.pubsub.resources import DAY_S, Content, SubscriptionConfig, TopicConfig

REQUEST_MAX_BYTES = 10_000_000
MESSAGES_MAX = 1000
ATTRIBUTES_MAX = 100
KEY_MAX_BYTES = 256
VALUE_MAX_BYTES = 1024
ORDERING_KEY_MAX_BYTES = 1024
LABELS_MAX = 64

ACK_REQUEST_MAX_BYTES = 524_288
ACK_IDS_MAX = 2500
"""The service limits bytes alone. Its ack ids are about 200 bytes, ours 60: so many of its own would fit."""

LEASE_MIN_S = 10
LEASE_MAX_S = 600
RETENTION_S = (600.0, 31 * DAY_S)
EXPIRATION_MIN_S = DAY_S
BACKOFF_MAX_S = 600.0
DELIVERY_ATTEMPTS = (5, 100)

_NAME = re.compile(r"projects/[A-Za-z0-9.:~_-]+/(topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}")
_PROJECT = re.compile(r"projects/[A-Za-z0-9.:~_-]+")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def check_name(name: str, *, kind: str) -> None:
    """`kind` is `topics` or `subscriptions`."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] != kind:
        raise InvalidArgument(
            f"Invalid [{kind}] name: (name={name}): expected projects/<project>/{kind}/<name>, the name 3 to 255 "
            "characters of A-Z a-z 0-9 - _ . ~ + %, beginning with a letter and not with goog"
        )


def check_project(project: str) -> None:
    """A parent of topics and subscriptions."""
    if not _PROJECT.fullmatch(project):
        raise InvalidArgument(f"Invalid project: (name={project}): expected projects/<project>")


def check_request_bytes(size_bytes: int, *, max_bytes: int = REQUEST_MAX_BYTES) -> None:
    """The size of a request on the wire."""
    if size_bytes > max_bytes:
        raise InvalidArgument(f"Request payload size exceeds the limit: {size_bytes} of {max_bytes} bytes")


def check_contents(contents: Sequence[Content]) -> None:
    """What one publish request may hold."""
    if not contents:
        raise InvalidArgument("No messages to publish")
    if len(contents) > MESSAGES_MAX:
        raise InvalidArgument(f"Too many messages to publish: {len(contents)}, at most {MESSAGES_MAX} in one request")
    for content in contents:
        _check_content(content)


def check_ack_ids(ack_ids: Sequence[str]) -> None:
    """How many ack ids one request may hold."""
    if not ack_ids:
        raise InvalidArgument("No ack ids specified")
    if len(ack_ids) > ACK_IDS_MAX:
        raise InvalidArgument(f"Too many ack ids: {len(ack_ids)}, at most {ACK_IDS_MAX} in one request")


def check_lease(deadline_s: int) -> None:
    """A lease extension; 0 is a nack."""
    if not 0 <= deadline_s <= LEASE_MAX_S:
        raise InvalidArgument(f"Invalid ack deadline: {deadline_s} s, expected 0 (nack) to {LEASE_MAX_S} s")


def check_stream_lease(deadline_s: int) -> None:
    """The lease that a streaming pull asks for."""
    if not LEASE_MIN_S <= deadline_s <= LEASE_MAX_S:
        raise InvalidArgument(
            f"stream_ack_deadline_seconds must be between {LEASE_MIN_S} and {LEASE_MAX_S} seconds, not {deadline_s}"
        )


def check_topic(config: TopicConfig) -> None:
    """A topic that somebody wants to create or update."""
    check_name(config.name, kind="topics")
    _check_labels(config.labels)
    if config.retention_s is not None:
        _check_between(config.retention_s, RETENTION_S, "message_retention_duration")


def check_subscription(config: SubscriptionConfig) -> None:
    """A subscription that somebody wants to create or update."""
    check_name(config.name, kind="subscriptions")
    _check_labels(config.labels)
    _check_between(config.ack_deadline_s, (LEASE_MIN_S, LEASE_MAX_S), "ack_deadline_seconds")
    _check_between(config.retention_s, RETENTION_S, "message_retention_duration")
    if config.expires_after_s is not None:
        _check_between(config.expires_after_s, (EXPIRATION_MIN_S, float("inf")), "expiration_policy.ttl")
    if config.retry:
        bounds_s = (config.retry.minimum_backoff_s, BACKOFF_MAX_S)
        _check_between(config.retry.minimum_backoff_s, (0, BACKOFF_MAX_S), "minimum_backoff")
        _check_between(config.retry.maximum_backoff_s, bounds_s, "maximum_backoff")
    if config.dead_letter:
        _check_attempts(config.dead_letter.max_delivery_attempts)


def _check_content(content: Content) -> None:
    if not content.data and not content.attributes:
        raise InvalidArgument("Some messages are empty: a message needs data or at least one attribute")
    if len(content.attributes) > ATTRIBUTES_MAX:
        raise InvalidArgument(
            f"A message has {len(content.attributes)} attributes, at most {ATTRIBUTES_MAX} are allowed"
        )
    for key, value in content.attributes.items():
        _check_attribute(key, value)
    _check_text_bytes(content.ordering_key, ORDERING_KEY_MAX_BYTES, "The ordering key")


def _check_attribute(key: str, value: str) -> None:
    if not key or key.startswith("goog"):
        raise InvalidArgument(f"Invalid attribute key {key!r}: it must not be empty and must not begin with goog")
    _check_text_bytes(key, KEY_MAX_BYTES, f"The attribute key {key[:20]}…")
    _check_text_bytes(value, VALUE_MAX_BYTES, f"The value of attribute {key}")


def _check_text_bytes(text: str, max_bytes: int, what: str) -> None:
    if len(text) * 4 > max_bytes and len(text.encode()) > max_bytes:  # four bytes is UTF-8's longest character
        raise InvalidArgument(f"{what} has {len(text.encode())} bytes, at most {max_bytes} are allowed")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > LABELS_MAX:
        raise InvalidArgument(f"Too many labels, at most {LABELS_MAX} are allowed")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise InvalidArgument(f"Invalid label {key}={value}: lower-case letters, digits, _ and -, 63 at most")


def _check_between(value: float, bounds: tuple[float, float], what: str) -> None:
    low, high = bounds
    if not low <= value <= high:
        raise InvalidArgument(f"{what} out of bounds: {value:g} s, expected {low:g} to {high:g} s")


def _check_attempts(attempts: int) -> None:
    low, high = DELIVERY_ATTEMPTS
    if not low <= attempts <= high:
        raise OutOfRange(f"Invalid max_delivery_attempts: {attempts}, expected {low} to {high}")

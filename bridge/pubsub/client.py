"""The wire to Pub/Sub: unary calls on plain protobuf, without the client library's wrappers.

Nothing is tried again here: the loops that call decide when, because what they hold may have changed by then.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import google.auth
import google.auth.exceptions
import google.auth.transport.grpc
import google.auth.transport.requests
import grpc
from google.pubsub_v1 import types

from lowtide.config import EMULATOR, pubsub_emulator
from lowtide.tasks.chunks.grouping import grouped
from lowtide.tasks.errors import LowtideError

ENDPOINT = "pubsub.googleapis.com:443"
SCOPES = ("https://www.googleapis.com/auth/pubsub",)

CALL_S = 10.0
PUBLISH_S = 15.0
"""A claim that is at most 10 s old when the publish begins outlives it: 10 + 15 < 30."""
PULL_S = 20.0

PUBLISH_AT_ONCE = 64
PUBLISH_AT_ONCE_BYTES = 8_000_000

NOBODYS = "none"
"""An ack id of no message."""

IDS_AT_ONCE = 2000
"""Ack ids in one request: it may have 512 KiB, and Google's ids have about 200 bytes."""

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    # The default waits up to two minutes before it looks whether Pub/Sub is back.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

Pb = Any
"""A protobuf message: the generated classes have no types."""

PullRequest = types.PullRequest.pb()
PullResponse = types.PullResponse.pb()
PublishRequest = types.PublishRequest.pb()
PublishResponse = types.PublishResponse.pb()
PubsubMessage = types.PubsubMessage.pb()
AcknowledgeRequest = types.AcknowledgeRequest.pb()
ModifyAckDeadlineRequest = types.ModifyAckDeadlineRequest.pb()


class PubsubError(LowtideError):
    """The base class of what a call to Pub/Sub raises. `code` is gRPC's word, such as NOT_FOUND."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class PubsubRefused(PubsubError):
    """Raised when Pub/Sub will refuse the same call each time: NotFound, PermissionDenied, InvalidArgument."""


class PubsubUnavailable(PubsubError):
    """Raised when Pub/Sub did not answer or could not: the call may or may not have had its effect."""

    retryable = True


class NoCredentials(LowtideError):
    """Raised when Google's Pub/Sub is meant and this process has no credentials. The message says how to get some."""


PERMANENT = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ALREADY_EXISTS,
    }
)


def error_of(error: grpc.RpcError) -> PubsubError:
    """What a gRPC error means to us."""
    code, details = error.code(), error.details() or "no details"
    if code in PERMANENT:
        return PubsubRefused(code.name, details)
    return PubsubUnavailable(code.name, f"Pub/Sub at {address()}: {details}")


def address() -> str:
    """Where Pub/Sub is, and what says so."""
    host = pubsub_emulator()
    return f"{host} ({EMULATOR})" if host else ENDPOINT


def connect_channel() -> grpc.Channel:
    """A channel to PUBSUB_EMULATOR_HOST when that is set, else to Google with the default credentials.

    Raises NoCredentials.
    """
    if host := pubsub_emulator():
        return grpc.insecure_channel(host, options=OPTIONS)
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise NoCredentials(
            "no credentials for Google's Pub/Sub: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run "
            f"`gcloud auth application-default login`; for an emulator set {EMULATOR} to its host:port"
        ) from error
    return google.auth.transport.grpc.secure_authorized_channel(
        credentials,
        google.auth.transport.requests.Request(),  # type: ignore[no-untyped-call]
        ENDPOINT,
        options=OPTIONS,
    )


class Pubsub:
    """The calls that the bridge makes. Safe to use from any thread."""

    def __init__(self, channel: grpc.Channel | None = None) -> None:
        """Raises NoCredentials."""
        self.channel = channel or connect_channel()
        self._pull = self.method("Subscriber/Pull", PullRequest, PullResponse)
        self._acknowledge = self.method("Subscriber/Acknowledge", AcknowledgeRequest, None)
        self._modify = self.method("Subscriber/ModifyAckDeadline", ModifyAckDeadlineRequest, None)
        self._publish = self.method("Publisher/Publish", PublishRequest, PublishResponse)

    def method(self, name: str, request: Pb, response: Pb | None) -> Any:
        """A callable for `Service/Method`. A response of None is one that says nothing."""
        return self.channel.unary_unary(
            f"/google.pubsub.v1.{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString if response else _nothing,
        )

    def pull(self, subscription: str, max_messages: int, *, timeout_s: float = PULL_S) -> grpc.Future:
        """Ask for messages; the answer is a PullResponse, as soon as there are any. Without any: none, or a
        DEADLINE_EXCEEDED, after `timeout_s`.
        """
        request = PullRequest(subscription=subscription, max_messages=max_messages)
        return self._pull.future(request, timeout=timeout_s, metadata=_route("subscription", subscription))

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        """Acknowledge; returns when Pub/Sub confirmed. Ids that it no longer knows are no error: what they were for
        is delivered again. Raises PubsubError.
        """
        self._each(subscription, ack_ids, lambda ids: (self._acknowledge, AcknowledgeRequest(ack_ids=ids)))

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        """Let leases end in `lease_s`; 0 hands the messages back at once. Unknown ids as above. Raises PubsubError."""
        self._each(
            subscription,
            ack_ids,
            lambda ids: (self._modify, ModifyAckDeadlineRequest(ack_ids=ids, ack_deadline_seconds=lease_s)),
        )

    def check_answers(self, subscription: str) -> None:
        """Raises PubsubError when Pub/Sub does not answer: a pull that finds nothing looks the same. Asks by a call
        that changes nothing and needs no other right than reading.
        """
        self.modify_ack_deadline(subscription, [NOBODYS], 0)

    def publish(self, topic: str, messages: Sequence[Pb]) -> Sequence[str]:
        """Publish; returns the id that Pub/Sub gave each message. Raises PubsubError: all or none were refused; of an
        unavailable Pub/Sub nothing is known.
        """
        request = PublishRequest(topic=topic, messages=messages)
        response = self._call(self._publish, request, timeout_s=PUBLISH_S, metadata=_route("topic", topic))
        if len(response.message_ids) != len(messages):
            raise PubsubUnavailable("UNKNOWN", f"{len(response.message_ids)} ids for {len(messages)} messages")
        return tuple(response.message_ids)

    def close(self) -> None:
        """End the connection, and with it every call in flight."""
        self.channel.close()

    def _each(self, subscription: str, ack_ids: Sequence[str], call_of: Callable[[Sequence[str]], Any]) -> None:
        for start in range(0, len(ack_ids), IDS_AT_ONCE):
            self._with_ids(subscription, ack_ids[start : start + IDS_AT_ONCE], call_of)

    def _with_ids(self, subscription: str, ack_ids: Sequence[str], call_of: Callable[[Sequence[str]], Any]) -> None:
        """One unknown id makes Pub/Sub refuse all of them: halve until it is alone, and leave it out."""
        method, request = call_of(ack_ids)
        request.subscription = subscription
        try:
            self._call(method, request, timeout_s=CALL_S, metadata=_route("subscription", subscription))
        except PubsubRefused as error:
            if error.code != grpc.StatusCode.INVALID_ARGUMENT.name:
                raise
            half = len(ack_ids) // 2
            for part in (ack_ids[:half], ack_ids[half:]) if half else ():
                self._with_ids(subscription, part, call_of)

    def _call(self, method: Any, request: Pb, *, timeout_s: float, metadata: Any) -> Pb:
        try:
            return method(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            raise error_of(error) from error
        except google.auth.exceptions.GoogleAuthError as error:
            # The metadata server may be late after boot.
            raise PubsubUnavailable("UNAUTHENTICATED", str(error)) from error


def message_of(data: bytes, attributes: Mapping[str, str]) -> Pb:
    """A message to publish."""
    return PubsubMessage(data=data, attributes=attributes)


def publish_each(
    publish: Callable[[str, Sequence[Pb]], Sequence[str]], topic: str, messages: Sequence[Pb]
) -> list[str | PubsubRefused]:
    """`publish`, one by one as far as needed: the id of each message, or why Pub/Sub refuses it. One bad message makes
    it refuse all: halve until it is alone. Raises PubsubError for what is not about a message.
    """
    try:
        return list(publish(topic, messages))
    except PubsubRefused as error:
        if error.code != grpc.StatusCode.INVALID_ARGUMENT.name:
            raise
        if len(messages) == 1:
            return [error]
    half = len(messages) // 2
    return [each for part in (messages[:half], messages[half:]) for each in publish_each(publish, topic, part)]


def within_publish(messages: Iterable[Pb]) -> Iterator[list[Pb]]:
    """As many messages as one publish may hold."""
    return grouped(messages, _size_bytes, max_bytes=PUBLISH_AT_ONCE_BYTES, max_items=PUBLISH_AT_ONCE)


def _size_bytes(message: Pb) -> int:
    return int(message.ByteSize())


def _route(field: str, name: str) -> tuple[tuple[str, str]]:
    """How Google's front end learns where a topic or subscription lives."""
    return (("x-goog-request-params", f"{field}={quote(name, safe='')}"),)


def _nothing(_: bytes) -> bytes:
    return b""  # gRPC takes None for a failure to read

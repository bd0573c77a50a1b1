"""What passes between the parts of the bridge, and how large it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from lowtide.bridge.messages import decode
from lowtide.bridge.messages.content import is_raw
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest

FRAMING_BYTES = 16
"""What protobuf adds to an attribute, at most: two tags, three lengths."""


@dataclass(frozen=True, kw_only=True)  # no slots: its size is kept
class Received:
    """A message as Pub/Sub delivered it. `published_s`: Unix time at which Pub/Sub took it."""

    subscription: str
    ack_id: str
    message_id: str
    data: bytes
    attributes: Mapping[str, str]
    published_s: float

    @property
    def key(self) -> str:
        """The message's name in Redis and in this process. Stays the same when it is delivered again."""
        return f"{self.subscription}:{self.message_id}"

    @cached_property
    def size_bytes(self) -> int:
        """What it takes here, at most: with its JSON unpacked and read."""
        data_bytes = len(self.data) if is_raw(self.attributes) else decode.size_bytes(self.data)
        return data_bytes - len(self.data) + size_bytes(self.data, self.attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A message that is a request. `reply_topic`: full name. `tries`: attempts that were counted before this one.
    `is_upload`: an event of Cloud Storage, about an upload.
    """

    received: Received
    request: InferenceRequest
    reply_topic: str
    tries: int = 0
    is_upload: bool = False

    @property
    def request_id(self) -> str:
        """The caller's id, else Pub/Sub's."""
        return self.request.request_id or self.received.message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A request whose outcome another try may cure."""

    item: Translated
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a message is no request: `reason` is a word to branch on, `message` a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A message that asks for nothing. `why`: a word of `reasons.IGNORED`."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """What is published: a result, an expiry notice or a dead letter. `topic`: full name."""

    topic: str
    data: bytes
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A message ends with `outgoing`, which is published."""

    received: Received
    outgoing: OutgoingMessage
    request_id: str
    tries: int

    @property
    def key(self) -> str:
        """The message's key."""
        return self.received.key


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentEnding:
    """A message that asks for nothing is recorded and acknowledged; nothing is published. `why`: as in `Ignored`."""

    received: Received
    why: str

    @property
    def key(self) -> str:
        """The message's key."""
        return self.received.key


AnyEnding = Ending | SilentEnding


def subscription_of(key: str) -> str:
    """The full name of the subscription that a message with this key came by."""
    return key.rpartition(":")[0]


def size_bytes(data: bytes, attributes: Mapping[str, str]) -> int:
    """What a message takes on the wire, at most."""
    names = sum(len(key.encode()) + len(value.encode()) + FRAMING_BYTES for key, value in attributes.items())
    return len(data) + names + FRAMING_BYTES

"""The errors of Lowtide: one base class; whether a retry can help is a fact of the class."""

import json
import re
from collections.abc import Iterable

from kombu.exceptions import OperationalError
from redis import RedisError

_PLAIN_NAME = re.compile(r"[\w./:@+-]+", re.ASCII)


class LowtideError(Exception):
    """The base class of every error that Lowtide raises on purpose."""

    retryable = False


class InvalidRequest(LowtideError):
    """Raised when a request breaks the contract. `field` names what is wrong."""

    type = "invalid_request"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message, field)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class UnknownModel(InvalidRequest):
    """Raised to a Python caller, before anything is sent, when the fleet does not serve the request's model."""

    type = "unknown_model"


def not_served(model: str, served: Iterable[str]) -> str:
    """What is said of a model that the fleet does not have: quoted, when a blank or a letter that looks like another is
    the reason.
    """
    named = model if _PLAIN_NAME.fullmatch(model) else json.dumps(model)
    return f"{named} is not served here; served are {', '.join(sorted(served))}"


class RedisUnusable(LowtideError, OperationalError, RedisError):
    """Raised to a Python caller who can't send: why, and what to do. It is what kombu and redis-py raise, too."""

    retryable = True


class OtherProtocol(LowtideError, RedisError):
    """Raised when processes of another release have this Redis, whose protocol is not ours."""

    def __init__(self, *, spoken: str, ours: str) -> None:
        super().__init__(f"it holds a fleet of protocol {spoken}, this release speaks {ours}")
        self.spoken = spoken


class RequestFailed(LowtideError):
    """Raised to a Python caller whose request has no outputs. `type` is a word to branch on, `message` for people."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        self.type = type
        self.message = message

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class ContentError(LowtideError):
    """Raised when a request's content can't be had or can't be used: the request fails, its neighbours go on."""

    type = "content"

    def __init__(self, message: str, type: str | None = None) -> None:
        super().__init__(message)
        self.type = type or self.type


class ContentUnavailable(ContentError):
    """Raised when content could not be fetched this time: a later try may succeed."""

    type = "unavailable"
    retryable = True


EMPTY_OBJECT = "empty_object"
"""The type of a ContentError: the generation of an object that the request names has no bytes."""


class MemoryShort(ContentError):
    """Raised when there was not enough memory for a request's content this time: a later try may succeed."""

    type = "memory_short"
    retryable = True


class ContentLost(LowtideError):
    """Raised when the content beside a task is gone. Its sender still has it, and sends it again."""

    retryable = True


class HandBack(LowtideError):
    """Raised when a task goes back to its queue unharmed: nothing failed, and another worker takes it up."""

    retryable = True


class EngineStopped(HandBack):
    """Raised to a task whose engine stops before the work is done. `implicated`: the request was on the device with
    others when that had to stop, and one of them is why.
    """

    def __init__(self, message: str, *, implicated: bool = False) -> None:
        super().__init__(message)
        self.implicated = implicated

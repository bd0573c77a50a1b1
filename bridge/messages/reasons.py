"""Why a message is no request, or needs no answer. Pure."""

from typing import NoReturn

from lowtide.bridge.messages.kinds import Ignored, Rejection

REASONS = {
    "malformed_json": "the data begins like JSON and is no JSON object",
    "invalid_request": "a field is missing, unknown or wrong",
    "no_content": "the message is empty",
    "no_model": "no model is named, and there is no default model",
    "unknown_model": "the fleet does not serve the model",
    "unsupported_event": "an event that Lowtide does not know",
    "reply_topic_not_allowed": "`reply_topic` is not in `LOWTIDE_REPLY_TOPICS`",
}
"""Why a message is no request: a dead letter says so."""

IGNORED = {
    "deleted": "an object was deleted",
    "archived": "an object became a noncurrent version",
    "metadata_updated": "an object's metadata changed",
    "folder": "a folder was made: the object's name ends with `/`",
    "empty": "an object of size 0 was uploaded",
}
"""Events of Cloud Storage that ask for nothing."""


class NoRequest(Exception):
    """Raised while a message is read that is no request. `ending`: what it is instead."""

    def __init__(self, ending: Rejection | Ignored) -> None:
        super().__init__(ending)
        self.ending = ending


def reject(reason: str, message: str) -> NoReturn:
    """The message becomes a dead letter. Raises NoRequest."""
    raise NoRequest(Rejection(reason=reason, message=message))


def ignore(why: str) -> NoReturn:
    """The message asks for nothing. Raises NoRequest."""
    raise NoRequest(Ignored(why=why))

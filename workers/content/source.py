"""The port to where content is, and what every source behind it keeps to: a bound on size."""

from typing import Protocol

from lowtide.tasks.errors import ContentError
from lowtide.tasks.wire.request import InferenceRequest


class ContentSource(Protocol):
    """Where the content of one scheme is. Safe to call from any thread."""

    def read(self, uri: str, *, timeout_s: float, generation: str | None = None) -> bytes:
        """The content; with `generation`, which only objects of Cloud Storage have, of that one and no other. Raises
        ContentError when it can't ever be had, ContentUnavailable when another try may help.
        """


def inline(request: InferenceRequest, max_bytes: int) -> bytes:
    """The content that travelled in the request. Raises ContentError before it is decoded when it is too large."""
    if request.inline_bytes > max_bytes:
        raise too_large("the content", max_bytes)
    content = request.content()
    if len(content) > max_bytes:
        raise too_large("the content", max_bytes)
    return content


def too_large(what: str, max_bytes: int) -> ContentError:
    """Says that `what` is over the limit, and what to do."""
    message = f"{what} is over {max_bytes} bytes: make it smaller, or raise LOWTIDE_CONTENT_MAX_BYTES"
    return ContentError(message, type="too_large")

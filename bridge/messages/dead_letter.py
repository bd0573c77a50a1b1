"""Dead letters: the original, and why nothing can come of it. Pure."""

from collections.abc import Mapping

from lowtide.bridge.messages.content import CONTENT
from lowtide.bridge.messages.kinds import OutgoingMessage, Received, size_bytes
from lowtide.bridge.messages.translate import is_read
from lowtide.config.redact import redacted

OWN = "lowtide_"
ORIGINALS_MAX = 96
ATTRIBUTES_MAX = 100
ERROR_MAX_BYTES = 1000
VALUE_MAX_BYTES = 1024
MESSAGE_MAX_BYTES = 9_990_000
"""Pub/Sub's 10,000,000 are for the whole request: its envelope and the topic's name need the rest."""


def dead_letter(
    received: Received, *, topic: str, reason: str, error: str, tries: int, request_id: str
) -> OutgoingMessage:
    """The dead letter. `lowtide_attempts` is 1 + `tries`: the attempt that ended here, and those counted before."""
    why = {
        f"{OWN}reason": reason,
        f"{OWN}error": cut(redacted(error), ERROR_MAX_BYTES),
        f"{OWN}attempts": str(1 + tries),
        f"{OWN}request_id": cut(request_id, VALUE_MAX_BYTES),
    }
    attributes = {**_originals(received.attributes, ORIGINALS_MAX), **why}
    if size_bytes(received.data, attributes) <= MESSAGE_MAX_BYTES:
        return OutgoingMessage(topic=topic, data=received.data, attributes=attributes)
    why[f"{OWN}truncated"] = "true"
    kept = _originals(received.attributes, min(ORIGINALS_MAX, ATTRIBUTES_MAX - len(why)))
    return OutgoingMessage(topic=topic, data=b"", attributes={**kept, **why})


def cut(text: str, max_bytes: int) -> str:
    """The beginning of `text` that fits, without half a character. What UTF-8 can't say becomes `?`."""
    return text.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")


def is_ours(attribute: str) -> bool:
    """True for an attribute of a dead letter that the bridge wrote, not the publisher."""
    return attribute.startswith(OWN) and attribute != CONTENT


def _originals(attributes: Mapping[str, str], count: int) -> dict[str, str]:
    """Pub/Sub keeps `goog` for itself; ours are said anew. What a request is made of comes first: `lowtide replay`
    makes it again. Sorted, so that the same ones are kept each time.
    """
    names = sorted(
        (name for name in attributes if name and not name.startswith("goog") and not is_ours(name)),
        key=lambda name: (not is_read(name), name),
    )
    return {name: attributes[name] for name in names[:count]}

"""Sources as the messages that ask for them, and publishing these so that one that is refused fails alone."""

import base64
import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from lowtide.bridge.messages.content import CONTENT, RAW, may_be_read_as_request
from lowtide.bridge.messages.dead_letter import MESSAGE_MAX_BYTES, VALUE_MAX_BYTES, cut
from lowtide.bridge.pubsub.client import (
    Pb,
    Pubsub,
    PubsubRefused,
    PubsubUnavailable,
    message_of,
    publish_each,
    within_publish,
)
from lowtide.cli.sources.sources import NoSource, Source

log = logging.getLogger(__name__)

TRIES = 5

Item = TypeVar("Item")
Sent = str | NoSource | PubsubRefused


def request_message(
    source: Source,
    model: str | None,
    params: Mapping[str, Any],
    *,
    local_files: bool = False,
    attributes: Mapping[str, str] | None = None,
) -> Pb:
    """The message that asks for `source`. Content is sent so that no bridge takes it for a request, whatever it holds.

    Raises NoSource.
    """
    content = source.content(local_files=local_files)
    fields = {"request_id": fitting(source.request_id), **({"model": model} if model else {})}
    asked = json.dumps(params) if params else ""
    if isinstance(content, bytes) and not may_be_read_as_request(content) and len(asked) <= VALUE_MAX_BYTES:
        raw = {CONTENT: RAW, **fields, **({"params": asked} if asked else {})}
        message = message_of(content, {**raw, **(attributes or {})})
    else:
        given = {"uri": content} if isinstance(content, str) else {"data": base64.b64encode(content).decode("ascii")}
        body = {**fields, **given, **({"params": dict(params)} if params else {})}
        message = message_of(json.dumps(body).encode(), dict(attributes or {}))
    if message.ByteSize() > MESSAGE_MAX_BYTES:
        raise NoSource(f"{source.request_id[:100]}: its message is larger than Pub/Sub's {MESSAGE_MAX_BYTES:,} bytes")
    return message


def fitting(request_id: str) -> str:
    """The id as it travels: one that is too long for an attribute is cut, and ends with a word of its own."""
    if len(request_id.encode()) <= VALUE_MAX_BYTES:
        return request_id
    return cut(request_id, VALUE_MAX_BYTES - 16) + "…" + hashlib.sha256(request_id.encode()).hexdigest()[:12]


def publish_all(
    pubsub: Pubsub,
    topic: str,
    items: Iterable[Item],
    message_of: Callable[[Item], Pb],
    *,
    tries: int = TRIES,
) -> Iterator[tuple[Item, Sent]]:
    """What became of each item, in their order: the id of its message, or why there is none. As many go at once as one
    publish may hold. `message_of` may raise NoSource. Raises what `publish_patiently` does.
    """
    asked: deque[tuple[Item, NoSource | None]] = deque()

    def messages() -> Iterator[Pb]:
        for item in items:
            try:
                message = message_of(item)
            except NoSource as error:
                asked.append((item, error))
            else:
                asked.append((item, None))
                yield message

    for group in within_publish(messages()):
        sent = deque(publish_patiently(pubsub, topic, group, tries=tries))
        # The first of the next group may have been asked for already.
        while asked and (sent or asked[0][1]):
            item, error = asked.popleft()
            yield item, error or sent.popleft()
    yield from ((item, error) for item, error in asked if error)


def publish_patiently(
    pubsub: Pubsub, topic: str, messages: Sequence[Pb], *, tries: int = TRIES
) -> list[str | PubsubRefused]:
    """The id of each message, or why Pub/Sub refuses it. Raises PubsubUnavailable when Pub/Sub stays away, and
    PubsubRefused when it refuses whatever is published there.
    """
    for attempt in range(1, tries):
        try:
            return publish_each(pubsub.publish, topic, messages)
        except PubsubUnavailable as error:
            log.warning("Pub/Sub: %s; trying again in %d s", error, 2 ** (attempt - 1))
            time.sleep(2 ** (attempt - 1))
    return publish_each(pubsub.publish, topic, messages)

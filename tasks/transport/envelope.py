"""A message as it lies in `unacked`, and what goes back to the list. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any

from lowtide.tasks.errors import LowtideError

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which JSON can spell and UTF-8 can't."""


class Unreadable(LowtideError):
    """Raised when bytes aren't a message of kombu's: no worker could ever run them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revived:
    """A message ready to be served again: its list's key, its JSON, its Celery id ("" when it has none)."""

    list: str
    raw: str
    task: str


def revive(entry: bytes) -> Revived:
    """The message of an entry of `unacked`, marked as redelivered where kombu marks it. Raises Unreadable.

    Plain JSON both ways: kombu's own would turn typed values into Python's and back.
    """
    list_, _, raw = entry.partition(b"\n")
    try:
        message = json.loads(raw)
        message["headers"]["redelivered"] = True
        message["properties"].setdefault("delivery_info", {})["redelivered"] = True
        return Revived(list=list_.decode(), raw=json.dumps(message), task=task_of(message))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}, in {len(entry)} bytes") from error


def task_of(message: dict[str, Any]) -> str:
    """The Celery id; "" when the message isn't a Celery task, as one whose id no key of Redis could hold."""
    task = (message.get("headers") or {}).get("id")
    return task if isinstance(task, str) and not SURROGATE.search(task) else ""


def redelivered(message: dict[str, Any]) -> bool:
    """True when somebody held the message before."""
    return bool(((message.get("properties") or {}).get("delivery_info") or {}).get("redelivered"))

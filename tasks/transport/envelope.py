"""A message as it lies in kombu's `unacked`, and what goes back to the list. Pure."""

import json
from bisect import bisect
from dataclasses import dataclass
from typing import Any

from kombu.transport.redis import PRIORITY_STEPS, Channel

from lowtide.tasks.errors import LowtideError


class Unreadable(LowtideError):
    """Raised when bytes aren't a message of kombu's: no worker could ever run them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revived:
    """A message ready to be served again: its list (without prefix), its JSON, its Celery id ("" when it has none)."""

    list: str
    raw: str
    task: str


def revive(entry: bytes | str) -> Revived:
    """The message of an entry of `unacked`, marked as redelivered where kombu marks it. Raises Unreadable.

    Plain JSON both ways: kombu's own would turn typed values into Python's and back.
    """
    try:
        message, _, queue = json.loads(entry)
        message["headers"]["redelivered"] = True
        message["properties"].setdefault("delivery_info", {})["redelivered"] = True
        step = priority_step(message["properties"].get("priority"))
        return Revived(
            list=f"{queue}{Channel.sep}{step}" if step else queue, raw=json.dumps(message), task=task_of(message)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}, in {len(entry)} bytes") from error


def task_of(message: dict[str, Any]) -> str:
    """The Celery id; "" when the message isn't a Celery task."""
    task = (message.get("headers") or {}).get("id")
    return task if isinstance(task, str) else ""


def redelivered(message: dict[str, Any]) -> bool:
    """True when somebody held the message before."""
    return bool(((message.get("properties") or {}).get("delivery_info") or {}).get("redelivered"))


def priority_step(priority: object) -> int:
    """Which of a queue's lists a priority belongs to, as kombu computes it."""
    try:
        number = max(min(int(str(priority)), Channel.max_priority), Channel.min_priority)
    except ValueError:
        number = Channel.default_priority
    step: int = PRIORITY_STEPS[bisect(PRIORITY_STEPS, number) - 1]
    return step

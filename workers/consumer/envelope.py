"""What the channel reads of a message, and what it writes there for Celery. Pure."""

import re
from typing import Any

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which JSON can spell and UTF-8 can't."""


def task_of(message: dict[str, Any]) -> str:
    """The Celery id; "" when the message isn't a Celery task, as one whose id no key of Redis could hold."""
    task = (message.get("headers") or {}).get("id")
    return task if isinstance(task, str) and not SURROGATE.search(task) else ""


def redelivered(message: dict[str, Any]) -> bool:
    """True when somebody held the message before."""
    return bool(((message.get("properties") or {}).get("delivery_info") or {}).get("redelivered"))


def mark_redelivered(message: dict[str, Any]) -> None:
    """Say so where Celery looks for it, and kombu writes it."""
    message["headers"]["redelivered"] = True
    message["properties"].setdefault("delivery_info", {})["redelivered"] = True

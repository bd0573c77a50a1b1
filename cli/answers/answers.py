"""What messages of the results topic and the dead-letter topic say, as results. Nothing of them is taken on trust."""

import json
from collections.abc import Mapping
from typing import Any

from lowtide.bridge.messages.dead_letter import OWN
from lowtide.bridge.messages.kinds import Received

Result = Mapping[str, Any]

DEAD = "dead"
"""The status of a dead letter where results and dead letters stand side by side."""
_BEGINNING = 40


class NoResult(Exception):
    """Raised when a message is no result: some other program wrote it. The message says what it is instead."""


def read_result(message: Received) -> Result:
    """The result in a message, whole enough to be shown. Raises NoResult."""
    beginning = repr(message.data[:_BEGINNING])[1:] + ("…" if len(message.data) > _BEGINNING else "")
    try:
        result = json.loads(message.data)
    except (ValueError, RecursionError) as error:
        raise NoResult(f"not JSON: {beginning}") from error
    if not isinstance(result, dict):
        raise NoResult(f"not a JSON object: {beginning}")
    if not all(isinstance(result.get(name), str) for name in ("request_id", "model", "status")):
        raise NoResult(f"a JSON object without request_id, model and status: {beginning}")
    if not isinstance(result.get("error"), dict | None) or not isinstance(result.get("outputs"), list | None):
        raise NoResult(f"a JSON object whose error or outputs are none of a result: {beginning}")
    return result


def is_dead_letter(message: Received) -> bool:
    """True for what a bridge wrote because nothing can come of it."""
    return f"{OWN}reason" in message.attributes


def read_dead_letter(message: Received, *, status: str = "failed") -> Result:
    """A dead letter as a result."""
    given = message.attributes
    return failed(
        given.get(f"{OWN}request_id", ""),
        given.get(f"{OWN}reason", "dead_letter"),
        given.get(f"{OWN}error", ""),
        model=given.get("model", ""),
        message_id=message.message_id,
        status=status,
    )


def failed(
    request_id: str, type: str, message: str, *, model: str, message_id: str = "", status: str = "failed"
) -> Result:
    """A result that no worker has written."""
    return {
        "request_id": request_id,
        "message_id": message_id,
        "model": model,
        "model_version": "",
        "status": status,
        "outputs": [],
        "error": {"type": type, "message": message},
        "attempts": 1,
        "timings_ms": {},
        "object": None,
    }


def failure_of(result: Result) -> str | None:
    """The type of what went wrong: that of the error, else the status. None for an answer."""
    return None if result["status"] == "ok" else error_of(result)[0]


def error_of(result: Result) -> tuple[str, str]:
    """Type and message of what went wrong, as text whatever they are; empty for an answer."""
    error = result.get("error")
    if result["status"] == "ok" or not isinstance(error, Mapping):
        return ("" if result["status"] == "ok" else str(result["status"])), ""
    return str(error.get("type") or result["status"]), str(error.get("message") or "")

"""What is wrong with a request, in words: the field, what is expected there, and what came. Pure."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from lowtide.config.redact import redacted
from lowtide.tasks.errors import InvalidRequest

EXPECTED = {
    "model": "the name of a model, of at most 200 characters",
    "uri": "text such as gs://bucket/object, of at most 4096 characters",
    "generation": "a whole number above 0",
    "data": "base64 text",
    "params": "an object with names as keys",
    "request_id": "text, not empty, or a whole number",
    "expires_at": "an RFC 3339 time with its offset, such as 2026-01-31T12:00:00Z",
    "priority": '"high" or "normal"',
    "reply_topic": "the name of a topic",
    "traceparent": "text",
}
SHORT = 60
"""Of a value that long so much is shown as it is: a word in the wrong place, not content."""
UNIONS = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string", "array", "map"})


def unexpected() -> PydanticCustomError:
    """What a validator raises for a value that is not what `EXPECTED` says."""
    return PydanticCustomError("unexpected", "not what is expected")


def explained(error: ValidationError) -> InvalidRequest:
    """The first thing that is wrong, as an error that names the field."""
    first = error.errors(include_url=False)[0]
    field = _short(str(first["loc"][0])) if first["loc"] else ""
    if first["type"] == "missing":
        return InvalidRequest("is missing", field)
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        if not field and ": " in message:
            field, _, message = message.partition(": ")
        return InvalidRequest(message, field or None)
    if field not in EXPECTED:
        return InvalidRequest(f"is not a field of a request{_meant(field)}; fields are {', '.join(EXPECTED)}", field)
    return InvalidRequest(f"expected {EXPECTED[field]}, got {shown(first['input'])}", field)


def shown(value: Any) -> str:
    """What came, for people who look for their mistake: its type, and short values themselves, redacted."""
    if isinstance(value, str):
        return _quoted(redacted(value)) if len(value) <= SHORT else f"a text of {len(value)} characters"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return f"the number {value}" if isinstance(value, float) or abs(value) < 10**SHORT else "a long number"
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return "an object" + _union(value)
    if isinstance(value, Sequence):
        return f"an array of {len(value)}"
    return type(value).__name__


def named(fields: Mapping[str, Any], field: str) -> Any:
    """What stands under the name of a field, in any spelling: `requestId` for `request_id`."""
    return next((fields[name] for name in fields if _plain(name) == _plain(field)), None)


def _short(name: str) -> str:
    return name if len(name) <= SHORT else f"{name[:SHORT]}…"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _union(value: Mapping[Any, Any]) -> str:
    """Avro writes a value of several possible types so in JSON."""
    only = next(iter(value)) if len(value) == 1 else None
    return f' with the key "{only}": give the value without its Avro type' if only in UNIONS else ""


def _meant(name: str) -> str:
    plain = {_plain(field): field for field in EXPECTED}
    close = difflib.get_close_matches(_plain(name[:SHORT]), plain, n=1, cutoff=0.6)
    return f" (is {plain[close[0]]} meant?)" if close else ""


def _plain(name: Any) -> str:
    return str(name).replace("_", "").replace("-", "").lower()

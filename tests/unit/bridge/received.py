"""A message as a bridge has it, whatever the test at hand does not say of it."""

import json
from collections.abc import Mapping
from typing import Any

from lowtide.bridge.messages.kinds import Received


def received(
    message_id: str = "17",
    data: bytes = b"",
    *,
    subscription: str = "s",
    ack_id: str | None = None,
    attributes: Mapping[str, str] | None = None,
    published_s: float = 0.0,
) -> Received:
    return Received(
        subscription=subscription,
        ack_id=ack_id or f"ack-{message_id}",
        message_id=message_id,
        data=data,
        attributes=attributes or {},
        published_s=published_s,
    )


def message(data: bytes | Mapping[str, Any] = b"", **attributes: str) -> Received:
    """Of bytes or JSON; `__` in an attribute's name is a `-`."""
    return received(
        data=data if isinstance(data, bytes) else json.dumps(data).encode(),
        attributes={name.replace("__", "-"): value for name, value in attributes.items()},
    )

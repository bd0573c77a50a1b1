"""Waiting for what is asked about, however slow the machine is."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 90.0
"""Ends a hang, and measures nothing: as a rule it takes a second."""


def until(condition: Callable[[], Any], *, within_s: float = PATIENCE_S, what: str = "") -> Any:
    """What the condition gives as soon as it is true."""
    end_s = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"not within {within_s:.0f} s: {what or condition}"
        time.sleep(0.02)
    return value

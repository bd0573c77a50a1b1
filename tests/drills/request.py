"""What the drills ask for."""

import base64
from typing import Any

MODEL = "drill"


def request_of(number: int) -> dict[str, Any]:
    """The request that is answered with its number."""
    return {"model": MODEL, "data": base64.b64encode(str(number).encode()).decode()}


def stored_request_of(number: int, bucket: str) -> dict[str, Any]:
    """The same, its content in Cloud Storage."""
    return {"model": MODEL, "uri": f"gs://{bucket}/{number}"}

"""Which release can read a task."""

from collections.abc import Iterable, Mapping
from typing import Any

WIRE_VERSION = 3
"""The highest that this release reads. One more when a worker of the release before would misread a request: such a
worker hands back what it doesn't know. A field that may be ignored, in an outcome for example, needs no new version.
"""
SINCE = {"generation": 2, "blob": 3}
"""Fields of a request that came later → the wire version of a task that uses one. All other tasks are of version 1, so
that nothing else waits for newer workers. `blob` is of tasks alone, see `lowtide.tasks.chunks.blob`: nobody can ask for
it.
"""


def wire_version_of(requests: Iterable[Mapping[str, Any]]) -> int:
    """What a worker must know to read these, as they travel."""
    return max((SINCE.get(name, 1) for request in requests for name in request), default=1)

"""Cloud Storage in trouble: what it holds can be had only a while after it was first asked for.

Not after so many answers: whoever loses a worker or a Redis in between asks more often, and is not to blame.
"""

import time
from collections.abc import Callable

from tests.cloud_storage import CloudStorage, Unavailable

AFTER_S = {"soon": 5.0, "late": 15.0}
"""Bucket → seconds until a request for its objects can be answered: at its second try, or at its third. Between tries
are 10 and 30 s.
"""


class TroubledStorage(CloudStorage):
    """The object `<bucket>/<number>` is its number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_s: dict[str, float] = {}
        super().__init__()

    def read(self, name: str) -> bytes | None:
        """The number, or None. Raises Unavailable."""
        bucket, _, number = name.partition("/")
        if bucket not in AFTER_S:
            return None
        now_s = self._clock()
        if now_s - self._first_s.setdefault(name, now_s) < AFTER_S[bucket]:
            raise Unavailable
        return number.encode()

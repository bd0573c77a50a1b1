"""Cloud Storage in trouble: some of what it holds can be had only a while after it was first asked for, and each worker
has an access of its own, which can be denied.

Not after so many answers: whoever loses a worker or a Redis in between asks more often, and is not to blame.
"""

import threading
import time
from collections.abc import Callable

from tests.cloud_storage import CloudStorage, Forbidden, Unavailable

AFTER_S = {"there": 0.0, "soon": 5.0, "late": 15.0}
"""Bucket → seconds until a request for its objects can be answered: at its first try, its second, or its third. Between
tries are 10 and 30 s.
"""
AT_ONCE = ("answer", "there")
"""What a request is about that is answered at its first try."""


class TroubledStorage:
    """The object `<bucket>/<number>` is its number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_s: dict[str, float] = {}

    def read(self, name: str) -> bytes | None:
        """The number, or None. Raises Unavailable."""
        bucket, _, number = name.partition("/")
        if bucket not in AFTER_S:
            return None
        now_s = self._clock()
        if now_s - self._first_s.setdefault(name, now_s) < AFTER_S[bucket]:
            raise Unavailable
        return number.encode()


class Access(CloudStorage):
    """One worker's way to a storage."""

    def __init__(self, storage: TroubledStorage) -> None:
        self.denied = threading.Event()
        self._storage = storage
        super().__init__()

    def read(self, name: str) -> bytes | None:
        """As the storage. Raises Unavailable, Forbidden."""
        if self.denied.is_set():
            raise Forbidden
        return self._storage.read(name)

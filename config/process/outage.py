"""Says once that something is away, and once that it is back."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Outage:
    """One service, as one or more threads see it."""

    def __init__(self, service: str, *, why: Callable[[Exception], object] = str) -> None:
        """`why` makes words of an error."""
        self._service = service
        self._why = why
        self._lock = threading.Lock()
        self._since_s: float | None = None

    @property
    def on(self) -> bool:
        """True while the service is away."""
        return self._since_s is not None

    def failed(self, error: Exception) -> None:
        """A call failed."""
        with self._lock:
            if self._since_s is None:
                self._since_s = time.monotonic()
                log.warning("%s: trying on: %s", self._service, self._why(error))

    def over(self) -> None:
        """A call succeeded."""
        if self._since_s is None:  # the hot path takes no lock
            return
        with self._lock:
            since_s, self._since_s = self._since_s, None
        if since_s is not None:
            log.info("%s: back after %.1f s", self._service, time.monotonic() - since_s)


class Outages:
    """One service in parts, each of which may be away for itself."""

    def __init__(self, service: str, *, why: Callable[[Exception], object] = str) -> None:
        self._service = service
        self._why = why
        self._parts: dict[str, Outage] = {}

    def of(self, part: str) -> Outage:
        """The outages of one part."""
        return self._parts.setdefault(part, Outage(f"{self._service} of {part}", why=self._why))

"""Liveness: `GET /healthz` answers whether this process still gets anywhere, so that a supervisor can restart it.

Comes in: a function that tells the health. Goes out: 200 or 503 with JSON.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from lowtide.config.addresses import at
from lowtide.config.process.web_server import WebServer
from lowtide.config.settings import SettingsError

PATH = "/healthz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether a process gets anywhere. `reason`: what is wrong, for people, also where the rest goes on. `ill`: one
    word for a process that is not ok. `details` are JSON-ready.
    """

    ok: bool
    reason: str = ""
    ill: str = "stuck"
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """What `/healthz` answers."""
        said = {"status": "ok" if self.ok else self.ill, **({"reason": self.reason} if self.reason else {})}
        return {**said, **self.details}


class Progress:
    """Tells stuck from idle: no progress for `stuck_after_s` while there is work. Pure but for its clock; any thread
    may call it.
    """

    def __init__(self, *, stuck_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._moved_s = clock()

    @property
    def moved_s(self) -> float:
        """Monotonic time of the last progress."""
        return self._moved_s

    def moved(self) -> None:
        """Something got done, or the first work came in."""
        self._moved_s = self._clock()

    def stuck(self, now_s: float, has_work: bool) -> bool:
        """True when work waits and nothing moved for too long. Having no work is as good as progress."""
        if not has_work:
            self._moved_s = max(self._moved_s, now_s)
        return now_s - self._moved_s > self._stuck_after_s


class HealthServer(WebServer):
    """Serves `/healthz`."""

    def __init__(self, check: Callable[[], Health], *, address: str, port: int) -> None:
        """Bind. Raises SettingsError when that can't be."""
        try:
            super().__init__(_answering(check), address=address, port=port)
        except OSError as error:
            raise SettingsError(
                f"LOWTIDE_HEALTH_PORT: can't listen on {at(address, port)}: {error.strerror}"
            ) from error


def _answering(check: Callable[[], Health]) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        # A client that connects and says nothing must not hold a thread for ever.
        timeout = 5.0

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != PATH:
                self._say(404, {"status": "not found", "reason": f"ask for {PATH}"})
                return
            health = check()
            self._say(200 if health.ok else 503, health.to_wire())

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds: not a state change."""

        def _say(self, status: int, answer: Mapping[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Answer

"""`MetadataServer`: the two keys of Google's metadata server that announce a VM's end, and a way to announce it."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from lowtide.config.process.preemption import MAINTENANCE, PREEMPTED
from lowtide.config.process.web_server import WebServer

PATH = "/computeMetadata/v1/instance/"
FLAVOR = ("Metadata-Flavor", "Google")


class MetadataServer(WebServer):
    """Listens on 127.0.0.1 from `start` to `stop`. `port=0` picks a free one; LOWTIDE_METADATA_URL takes `url`."""

    def __init__(self, *, port: int = 0) -> None:
        self._changed = threading.Condition()
        self._values = {PREEMPTED: "FALSE", MAINTENANCE: "NONE"}
        self._etags = dict.fromkeys(self._values, 1)
        super().__init__(_answering(self), address="127.0.0.1", port=port)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def announce(self, key: str, value: str) -> None:
        """Let `instance/<key>` have this value; who waits for a change is told."""
        with self._changed:
            self._values[key] = value
            self._etags[key] += 1
            self._changed.notify_all()

    def __enter__(self) -> "MetadataServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def read(self, key: str, *, etag: str | None, wait_s: float) -> tuple[str, str] | None:
        """The value and its etag, when the etag is not this one, or time is over; None: there is no such key."""
        with self._changed:
            if key not in self._values:
                return None
            self._changed.wait_for(lambda: str(self._etags[key]) != etag, timeout=wait_s)
            return self._values[key], str(self._etags[key])


def _answering(server: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            if self.headers[FLAVOR[0]] != FLAVOR[1]:
                self._say(403, "Missing Metadata-Flavor:Google header.")
                return
            wait_s = float(query.get("timeout_sec", 60)) if query.get("wait_for_change") == "true" else 0.0
            found = server.read(url.path.removeprefix(PATH), etag=query.get("last_etag"), wait_s=wait_s)
            if found is None:
                self._say(404, "no such key")
            else:
                self._say(200, *found)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

        def _say(self, status: int, value: str, etag: str = "") -> None:
            with suppress(ConnectionError):  # who asked has ended meanwhile
                self.send_response(status)
                self.send_header(*FLAVOR)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(value)))
                self.end_headers()
                self.wfile.write(value.encode())

    return Answer

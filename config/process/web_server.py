"""`WebServer`: HTTP from a daemon thread. Imports nothing of ours."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebServer:
    """Its life is `start` → `stop`. Port 0 picks a free one: see `port`."""

    def __init__(self, answer: type[BaseHTTPRequestHandler], *, address: str, port: int) -> None:
        """Bind, by the family that the address, or the first that a name has, belongs to. Raises OSError."""
        family = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][0]
        made = type("Server", (ThreadingHTTPServer,), {"address_family": family})
        self._server: ThreadingHTTPServer = made((address, port), answer)
        self._thread = threading.Thread(target=self._serve, name="web-server", daemon=True)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return self._server.server_port

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and free the port. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

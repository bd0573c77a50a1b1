"""Downloads over Cloud Storage's JSON API, as far as google-cloud-storage asks for them."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Unavailable(Exception):
    """Raised when an object can't be had this time: the answer is 503."""


class Forbidden(Exception):
    """Raised when whoever asks may not read the object: the answer is 403."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # the usual 5 are fewer than a fleet's fetch threads: the others would wait for a second


class CloudStorage:
    """Objects by `bucket/name`, those of a generation that is asked for by `bucket/name#generation`. `url` is what
    STORAGE_EMULATOR_HOST takes.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._server = Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def read(self, name: str) -> bytes | None:
        """None: there is no such object. Raises Unavailable, Forbidden."""
        return self.objects.get(name)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        read = self.read

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = re.fullmatch(r"/download/storage/v1/b/([^/]+)/o/([^/?]+)\?alt=media(.*)", self.path)
                generation = re.search(r"&generation=(\d+)", self.path)
                which = f"#{generation[1]}" if generation else ""
                try:
                    content = read("/".join(map(unquote, asked.groups()[:2])) + which) if asked else None
                except (Unavailable, Forbidden) as error:
                    self.send_error(503 if isinstance(error, Unavailable) else 403)
                    return
                if content is None:
                    self.send_error(404)
                    return
                first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                piece = content[first : last + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{first + len(piece) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(piece)))
                self.end_headers()
                self.wfile.write(piece)

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler

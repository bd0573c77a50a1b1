"""A metadata server like that of a Google VM, for the one question that a Spot VM asks: am I preempted?"""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREEMPTED = "/computeMetadata/v1/instance/preempted"
MAINTENANCE = "/computeMetadata/v1/instance/maintenance-event"
POLL_S = 0.05


class MetadataServer:
    """Answers with `url` as its base. `preempt` lets every hanging question be answered with TRUE."""

    def __init__(self) -> None:
        preempted = self._preempted = threading.Event()
        stopped = self._stopped = threading.Event()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if self.headers.get("Metadata-Flavor") != "Google":
                    self.send_error(403)
                    return
                if path not in (PREEMPTED, MAINTENANCE):
                    self.send_error(404)
                    return
                if "wait_for_change=true" in query:
                    while not (stopped.is_set() or (preempted.wait(POLL_S) and path == PREEMPTED)):
                        pass
                self._say(path)

            def _say(self, path: str) -> None:
                notice = "TRUE" if preempted.is_set() else "FALSE"
                body = (notice if path == PREEMPTED else "NONE").encode()
                self.send_response(200)
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):  # whoever asked may be gone
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metadata", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def preempt(self) -> None:
        self._preempted.set()

    def reset(self) -> None:
        """A new VM: not preempted."""
        self._preempted.clear()

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

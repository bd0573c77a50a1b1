"""A stand-in for Google's REST APIs. What it is asked and what it answers fits the discovery documents."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema

from tests.google.discovery import Discovery, Method

Answer = dict[str, Any]


class GoogleStandIn:
    """`things`: what there is, by service and path, such as `pubsub/v1/projects/p/topics/t`; a list has pages. Services
    that are `enabled` and permissions that are `granted` are told of by the methods that ask for them. `refused`:
    services that answer 403. `asked`: ids of methods. `wrong`: calls and answers that Google does not have.
    """

    def __init__(self) -> None:
        self.things: dict[str, Answer | list[Answer]] = {}
        self.enabled: set[str] = set()
        self.granted: set[str] = set()
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self._discovery = Discovery()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.base = f"http://127.0.0.1:{self._server.server_port}/{{service}}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, verb: str, url: str, body: Any) -> tuple[int, Answer]:
        parts = urlsplit(url)
        service, _, path = parts.path.removeprefix("/").partition("/")
        query = parse_qs(parts.query)
        try:
            method = self._discovery.method(service, verb, path)
            method.check_query(query)
            method.check_request(body)
            self.asked.append(method.id)
            if service in self.refused:
                return _error(403, "Permission denied on resource.")
            said = self._said(method, f"{service}/{path}", query, body)
            if said is None:
                return _error(404, "Not found.")
            method.check_response(said)
        except (AssertionError, jsonschema.ValidationError) as error:
            self.wrong.append(f"{verb} {url}: {error}")
            return _error(400, str(error))
        return 200, said

    def _said(self, method: Method, path: str, query: dict[str, list[str]], body: Any) -> Answer | None:
        if method.id == "serviceusage.services.batchGet":
            return {"services": [self._service(name) for name in query["names"]]}
        if method.id == "cloudresourcemanager.projects.testIamPermissions":
            granted = [one for one in body["permissions"] if one in self.granted]
            return {"permissions": granted} if granted else {}
        found = self.things.get(path)
        if isinstance(found, list):
            [page] = map(int, query.get("pageToken", ["0"]))
            return found[page] | ({"nextPageToken": str(page + 1)} if page + 1 < len(found) else {})
        return found

    def _service(self, name: str) -> Answer:
        host = name.rpartition("/")[2]
        on = host.removesuffix(".googleapis.com") in self.enabled
        return {"name": name, "config": {"name": host}, "state": "ENABLED" if on else "DISABLED"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._do("GET", None)

            def do_POST(self) -> None:
                self._do("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _do(self, verb: str, body: Any) -> None:
                status, said = answer(verb, self.path, body)
                written = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(written)))
                self.end_headers()
                self.wfile.write(written)

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler


@contextmanager
def serving_google() -> Iterator[GoogleStandIn]:
    """Ends with an AssertionError if it was asked, or has answered, what Google does not have."""
    stand_in = GoogleStandIn()
    try:
        yield stand_in
    finally:
        stand_in.close()
    assert stand_in.wrong == []


def _error(status: int, message: str) -> tuple[int, Answer]:
    return status, {"error": {"code": status, "message": message}}

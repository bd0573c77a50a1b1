"""`https://`: content from the hosts that the operator named, redirects included."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3

from lowtide.tasks.errors import ContentError, ContentUnavailable
from lowtide.workers.content.allowed_addresses import cut_off, guarded_adapter
from lowtide.workers.content.source import too_large

REDIRECTS_MAX = 5
SILENCE_S = 10.0
"""Longest wait for a connection, or for the next byte."""
WAITS = 3
"""For a connection, for its handshake and for the headers: each may take that long, and all of them no longer than the
time that is left.
"""

READ_BYTES = 256 * 1024

# A proxy that the environment names would look the host up itself, and connect wherever it likes.
_OPTIONS: Any = {"stream": True, "allow_redirects": False, "proxies": {"no_proxy": "*"}}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429})
_REFUSED = {401: "forbidden", 403: "forbidden", 404: "not_found", 410: "not_found"}

# Nothing but a host and a port: no user, no backslash, so that no two parsers see two hosts.
_URL = re.compile(r"https://(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::[0-9]{1,5})?(?=[/?#]|$)", re.IGNORECASE)


def allowed(url: str, hosts: Iterable[str]) -> bool:
    """True when the URL's host is one of `hosts`; `*.example.org` covers the subdomains of example.org."""
    found = _URL.match(url)
    if found is None:
        return False
    host = found["host"].lower()
    return any(host.endswith(entry[1:]) if entry.startswith("*.") else host == entry for entry in map(str.lower, hosts))


class Session(requests.Session):
    """Looks at no redirect, as we do that: to prepare the next request requests would read the answer's body, whole."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, whatever it answers."""


def new_session(private_networks: Iterable[str] = ()) -> requests.Session:
    """A session that sends no credentials (.netrc), keeps no cookies, and connects to public addresses only."""
    session = Session()
    session.mount("https://", guarded_adapter(private_networks))
    session.auth = _no_credentials
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    # Content is compressed by its own format, and what the bound counts should be what travels.
    session.headers["Accept-Encoding"] = "identity"
    return session


class HttpsSource:
    """Reads from `hosts`, one session per thread."""

    def __init__(
        self, *, hosts: Iterable[str], max_bytes: int, session: Callable[[], requests.Session] = new_session
    ) -> None:
        self._hosts = tuple(hosts)
        self._max_bytes = max_bytes
        self._new_session = session
        self._local = threading.local()

    def read(self, uri: str, *, timeout_s: float, generation: str | None = None) -> bytes:
        """The body of the answer, after redirects."""
        until_s = time.monotonic() + timeout_s
        try:
            return self._follow(uri, until_s)
        except ValueError as error:  # also of a redirect's target
            raise ContentError(f"{uri} is no URL: {error}", type="invalid_uri") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            # Of "max retries exceeded with url …" only the reason is news.
            reason = getattr(error.args[0], "reason", error) if error.args else error
            raise ContentUnavailable(f"{uri}: {reason}") from error

    def _follow(self, uri: str, until_s: float) -> bytes:
        url = uri
        for _ in range(REDIRECTS_MAX + 1):
            if not allowed(url, self._hosts):
                via = f" (redirected from {uri})" if url != uri else ""
                # A host that no entry can mean, or a user beside it: nothing helps that is added anywhere.
                advice = "add its host to LOWTIDE_HTTPS_HOSTS" if _URL.match(url) else "expected https://host/name"
                raise ContentError(f"{url}{via} is not allowed: {advice}", type="forbidden")
            silence_s = min(SILENCE_S, max((until_s - time.monotonic()) / WAITS, 0.001))
            with self._session().get(url, **_OPTIONS, timeout=silence_s) as answer:
                if answer.status_code not in _REDIRECTS:
                    _check_status(answer, url)
                    return self._body(answer, url, until_s)
                url = urljoin(url, answer.headers.get("Location", ""))
        raise ContentError(f"{uri} redirects more than {REDIRECTS_MAX} times", type="not_found")

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._new_session()
        return session

    def _body(self, answer: requests.Response, url: str, until_s: float) -> bytes:
        announced = answer.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise too_large(url, self._max_bytes)
        body = bytearray()
        with _until(answer, until_s) as late:
            try:
                # read1 gives what is there, so that what is too large is left early.
                while piece := answer.raw.read1(READ_BYTES, decode_content=True):
                    body += piece
                    if len(body) > self._max_bytes:
                        raise too_large(url, self._max_bytes)
            except urllib3.exceptions.HTTPError:
                if not late.is_set():
                    raise
        if late.is_set():  # what is cut off may look complete
            raise ContentUnavailable(f"{url}: not here in time ({len(body)} bytes came)")
        return bytes(body)


def _until(answer: requests.Response, until_s: float) -> AbstractContextManager[threading.Event]:
    """A server can also drip what is no content, such as the sizes of chunks: only a cut ends that."""
    connection: Any = answer.raw.connection
    if connection is None:  # all of it is here
        return nullcontext(threading.Event())
    return cut_off(connection.answering, after_s=until_s - time.monotonic())


def _check_status(answer: requests.Response, url: str) -> None:
    status = answer.status_code
    if status == requests.codes.ok:
        return
    said = f"{url}: the server answers {status} {answer.reason}"
    if status in _TRY_AGAIN or status >= 500:
        raise ContentUnavailable(said)
    raise ContentError(said, type=_REFUSED.get(status, "not_found"))


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from lowtide.config import Settings
from lowtide.tasks.errors import ContentError, ContentUnavailable
from lowtide.workers.content.allowed_addresses import reachable
from lowtide.workers.content.fetch import sources
from lowtide.workers.content.https import HttpsSource, new_session


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_reachable(address: str) -> None:
    assert reachable(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",  # carriers' NAT
        "169.254.169.254",  # the metadata server
        "fd20:ce::254",  # the same, over IPv6
        "0.0.0.0",  # Linux takes it for loopback
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "::ffff:169.254.169.254",  # IPv4-mapped
        "::a9fe:a9fe",  # IPv4-compatible
        "64:ff9b::a9fe:a9fe",  # NAT64
        "64:ff9b:1::808:808",  # NAT64 of a local network
        "2002:a9fe:a9fe::1",  # 6to4
    ],
)
def test_every_other_address_is_not_reachable_unless_its_network_is_allowed(address: str) -> None:
    given = ipaddress.ip_address(address)
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

    assert not reachable(given)
    assert reachable(given, everything)


def test_an_address_in_disguise_is_allowed_by_the_network_of_the_address_that_it_stands_for() -> None:
    ours = (ipaddress.ip_network("10.0.0.0/8"),)

    assert reachable(ipaddress.ip_address("::ffff:10.0.0.1"), ours)
    assert not reachable(ipaddress.ip_address("::ffff:192.168.0.1"), ours)


class TlsServer:
    """A web server behind TLS, on every loopback address. `asked`: (address it was reached at, host, path)."""

    def __init__(self, certificate) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.connections = 0
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.server = ThreadingHTTPServer(("0.0.0.0", 0), self._handler())
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that refuses our certificate is no news
        self.server.socket = certificate.server_context().wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def redirect(self, path: str, to: str) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", to)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.pages[path] = answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                web.connections += 1
                super().setup()

            def do_GET(self) -> None:
                web.asked.append((self.connection.getsockname()[0], self.headers["Host"].split(":")[0], self.path))
                web.pages.get(self.path, _meow)(self)

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler


def _meow(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b"meow")


@pytest.fixture
def web(certificate) -> Iterator[TlsServer]:
    server = TlsServer(certificate)
    yield server
    server.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What the name server answers: for each host its answers, one a look-up, the last one for ever."""
    answers: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args, **options):
        if host not in answers:
            assert ".." in host or ipaddress.ip_address(host), "no name is looked up for real"
            return real(host, *args, **options)
        now = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [found for address in now for found in real(address, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers


@pytest.fixture
def source(certificate, web, monkeypatch) -> Iterator[Callable[..., Callable[[str], bytes]]]:
    """`read(path, host=…)` of a source that may connect to `private` networks, with the true session."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
    sessions: list[requests.Session] = []

    def make(*private: str) -> Callable[[str], bytes]:
        def session() -> requests.Session:
            sessions.append(new_session(private))
            return sessions[-1]

        https = HttpsSource(hosts=("good.org", "*.wide.org"), max_bytes=1000, session=session)
        return lambda path, host="good.org", timeout_s=5.0: https.read(
            f"https://{host}:{web.port}{path}", timeout_s=timeout_s
        )

    yield make
    for opened in sessions:
        opened.close()


def refusal(read: Callable[[], bytes]) -> tuple[str, str]:
    with pytest.raises(ContentError) as caught:
        read()
    assert not isinstance(caught.value, ContentUnavailable), caught.value
    return caught.value.type, str(caught.value)


def test_a_host_in_an_allowed_network_is_read_and_its_certificate_checked_by_its_name(web, names, source) -> None:
    names |= {"good.org": [["127.0.0.1"]], "a.b.wide.org": [["127.0.0.1"]]}
    read = source("127.0.0.0/8")

    assert read("/cat.jpg") == b"meow"
    assert web.asked == [("127.0.0.1", "good.org", "/cat.jpg")]
    with pytest.raises(ContentUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        read("/cat.jpg", host="a.b.wide.org")


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"])
def test_an_allowed_host_at_a_private_address_is_not_even_connected_to(web, names, source, address: str) -> None:
    names["good.org"] = [[address]]
    kind, message = refusal(lambda: source()("/cat.jpg"))

    assert (kind, message) == (
        "forbidden",
        "good.org has no public address: allow its network with LOWTIDE_HTTPS_PRIVATE_NETWORKS",
    )
    assert web.connections == 0


def test_a_redirect_to_an_allowed_host_at_a_private_address_is_refused(web, names, source) -> None:
    names |= {"good.org": [["127.0.0.1"]], "inner.wide.org": [["127.0.0.2"]]}
    web.redirect("/cat.jpg", f"https://inner.wide.org:{web.port}/token")

    assert refusal(lambda: source("127.0.0.1/32")("/cat.jpg"))[1].startswith("inner.wide.org has no public address")
    assert [asked[2] for asked in web.asked] == ["/cat.jpg"]


def test_a_name_that_answers_otherwise_the_second_time_is_looked_up_once(web, names, source) -> None:
    names["good.org"] = [["127.0.0.2"], ["127.0.0.1"]]

    assert source("127.0.0.2/32")("/cat.jpg") == b"meow"
    assert [asked[0] for asked in web.asked] == ["127.0.0.2"]


def test_of_several_addresses_only_the_reachable_ones_are_tried_until_one_answers(web, names, source) -> None:
    names["good.org"] = [["127.0.0.1", "::1", "127.0.0.2"]]

    assert source("::1/128", "127.0.0.2/32")("/cat.jpg") == b"meow"  # nothing listens at ::1
    assert [asked[0] for asked in web.asked] == ["127.0.0.2"]


def test_a_host_that_no_name_server_knows_may_be_known_later(names, source, monkeypatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(ContentUnavailable, match="good.org"):
        source()("/cat.jpg")


def test_a_name_server_that_never_answers_holds_nobody_beyond_the_time(names, source, monkeypatch) -> None:
    asked, over = threading.Event(), threading.Event()

    def silence(*_: object, **__: object) -> None:
        asked.set()
        assert over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silence)
    try:
        with pytest.raises(ContentUnavailable, match="no name server knew good.org within"):
            source()("/cat.jpg", timeout_s=0.2)
        assert asked.is_set()
    finally:
        over.set()


def test_a_proxy_of_the_environment_is_not_used(web, names, source, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look the name up itself, and go where it likes."""
    names["good.org"] = [["127.0.0.1"]]
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert source("127.0.0.1/32")("/cat.jpg") == b"meow"


def test_a_server_that_drips_headers_is_left_at_the_deadline(web, names, source) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            for _ in range(3000):
                handler.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            pass

    names["good.org"] = [["127.0.0.1"]]
    web.pages["/cat.jpg"] = drip
    began_s = time.monotonic()
    with pytest.raises(ContentUnavailable):
        source("127.0.0.1/32")("/cat.jpg", timeout_s=0.3)
    assert time.monotonic() - began_s < 30.0


def test_a_server_that_is_slow_at_every_step_holds_nobody_beyond_the_time(web, names, source) -> None:
    accept = web.server.get_request

    def slowly():
        accepted = accept()
        time.sleep(0.8)  # connected to, and the handshake not begun
        return accepted

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.8)
        _meow(handler)

    names["good.org"] = [["127.0.0.1"]]
    web.server.get_request = slowly
    web.pages["/cat.jpg"] = answer
    with pytest.raises(ContentUnavailable, match="timed out"):
        source("127.0.0.1/32")("/cat.jpg", timeout_s=1.0)


@pytest.mark.parametrize("target", ["https://[", "//[x", "https://good.org:99999/", "https://a..wide.org/"])
def test_a_redirect_to_what_is_no_url_fails_the_request(web, names, source, target: str) -> None:
    names["good.org"] = [["127.0.0.1"]]
    web.redirect("/cat.jpg", target)

    assert refusal(lambda: source("127.0.0.1/32")("/cat.jpg"))[0] in ("invalid_uri", "forbidden")


def test_without_the_setting_a_worker_reads_from_no_private_network(names) -> None:
    names["good.org"] = [["127.0.0.1"]]
    https = sources(Settings(https_hosts=("good.org",)))["https"]

    assert refusal(lambda: https.read("https://good.org/token", timeout_s=5.0))[0] == "forbidden"
    https._session().close()

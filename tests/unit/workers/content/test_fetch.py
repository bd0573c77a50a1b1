import contextlib
import gzip
import os
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from urllib3 import HTTPConnectionPool

from lowtide.config import Settings
from lowtide.tasks.errors import ContentError, ContentUnavailable
from lowtide.workers.content.allowed_addresses import WatchedConnection
from lowtide.workers.content.fetch import Fetcher, sources
from lowtide.workers.content.file import FileSource
from lowtide.workers.content.gs import GsSource
from lowtide.workers.content.https import HttpsSource, allowed, new_session

MAX_BYTES = 1000


def refusal(read: Callable[[], bytes]) -> tuple[str, str]:
    with pytest.raises(ContentError) as caught:
        read()
    assert not isinstance(caught.value, ContentUnavailable), caught.value
    return caught.value.type, str(caught.value)


class Web:
    """A web server on loopback, and an adapter that brings every https host to it."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def page(self, path: str, body: bytes = b"", *, status: int = 200, **headers: str) -> None:
        self.stream(path, [body], status=status, **{"Content-Length": str(len(body)), **headers})

    def stream(
        self, path: str, pieces: Iterable[bytes], *, status: int = 200, pause_s: float = 0.0, **headers: str
    ) -> None:
        """The body in these pieces, until whoever asked goes away."""

        def answer(to: BaseHTTPRequestHandler) -> None:
            to.protocol_version = "HTTP/1.1" if "Transfer-Encoding" in headers else "HTTP/1.0"
            to.send_response(status)
            for name, value in headers.items():
                to.send_header(name, value)
            to.end_headers()
            with contextlib.suppress(OSError):
                for piece in pieces:
                    to.wfile.write(piece)
                    time.sleep(pause_s)

        self.pages[path] = answer

    def session(self) -> requests.Session:
        session = new_session()
        session.trust_env = False
        session.mount("https://", _Loopback(self.port))
        return session

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(f"{self.headers['Host']}{self.path}")
                page = web.pages.get(urlsplit(self.path).path)
                if page is None:
                    self.send_error(404)
                else:
                    page(self)

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler


class _Pool(HTTPConnectionPool):
    ConnectionCls = WatchedConnection


class _Loopback(requests.adapters.HTTPAdapter):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool}

    def send(self, request, **options):
        parts = urlsplit(request.url)
        request.headers["Host"] = parts.netloc
        request.url = parts._replace(scheme="http", netloc=f"127.0.0.1:{self._port}").geturl()
        return super().send(request, **options)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.close()


@pytest.fixture
def https(web: Web) -> Iterator[HttpsSource]:
    sessions: list[requests.Session] = []

    def session() -> requests.Session:
        sessions.append(web.session())
        return sessions[-1]

    yield HttpsSource(hosts=("good.org", "*.wide.org"), max_bytes=MAX_BYTES, session=session)
    for opened in sessions:
        opened.close()


# https


@pytest.mark.parametrize(
    "url",
    ["https://good.org/cat.jpg", "https://GOOD.org", "https://good.org:8443/a?b#c", "https://a.b.wide.org/cat.jpg"],
)
def test_a_url_of_an_allowed_host_is_allowed(url: str) -> None:
    assert allowed(url, ("good.org", "*.wide.org"))


@pytest.mark.parametrize(
    "url",
    [
        "http://good.org/cat.jpg",
        "https://evil.org/good.org",
        "https://good.org.evil.org/",
        "https://evilgood.org/",
        "https://wide.org/",
        "https://notwide.org/",
        "https://user@good.org/",
        "https://good.org@evil.org/",
        "https://good.org\\@evil.org/",
        "https://good.org%2eevil.org/",
        "https://[::1]/",
        "https://",
        " https://good.org/",
    ],
)
def test_any_other_url_is_not(url: str) -> None:
    assert not allowed(url, ("good.org", "*.wide.org"))


def test_content_comes_over_https(web: Web, https: HttpsSource) -> None:
    web.page("/cat.jpg", b"meow")
    assert https.read("https://good.org/cat.jpg", timeout_s=5) == b"meow"


def test_a_host_that_is_not_allowed_is_never_asked(web: Web, https: HttpsSource) -> None:
    kind, message = refusal(lambda: https.read("https://evil.org/cat.jpg", timeout_s=5))
    assert kind == "forbidden"
    assert message == "https://evil.org/cat.jpg is not allowed: add its host to LOWTIDE_HTTPS_HOSTS"
    assert web.asked == []


@pytest.mark.parametrize("url", ["https://", "https://user@good.org/a", "https://[::1/a", "https://good org/a"])
def test_what_no_entry_can_allow_is_not_advised_to_be_added(web: Web, https: HttpsSource, url: str) -> None:
    kind, message = refusal(lambda: https.read(url, timeout_s=5))
    assert (kind, message) == ("forbidden", f"{url} is not allowed: expected https://host/name")
    assert web.asked == []


def test_a_redirect_is_followed_to_an_allowed_host(web: Web, https: HttpsSource) -> None:
    web.page("/old", status=302, Location="https://cdn.wide.org/new")
    web.page("/new", b"meow")
    assert https.read("https://good.org/old", timeout_s=5) == b"meow"
    assert web.asked == ["good.org/old", "cdn.wide.org/new"]


@pytest.mark.parametrize("target", ["https://169.254.169.254/token", "http://good.org/new", "file:///etc/passwd"])
def test_a_redirect_elsewhere_is_refused(web: Web, https: HttpsSource, target: str) -> None:
    web.page("/old", status=302, Location=target)
    kind, message = refusal(lambda: https.read("https://good.org/old", timeout_s=5))
    assert kind == "forbidden"
    assert message.startswith(f"{target} (redirected from https://good.org/old) is not allowed")
    assert web.asked == ["good.org/old"]


def test_redirects_in_a_circle_end(web: Web, https: HttpsSource) -> None:
    web.page("/old", status=302, Location="/old")
    assert "redirects more than 5 times" in refusal(lambda: https.read("https://good.org/old", timeout_s=5))[1]


@pytest.mark.parametrize(("status", "type"), [(404, "not_found"), (410, "not_found"), (403, "forbidden")])
def test_what_the_server_refuses_fails(web: Web, https: HttpsSource, status: int, type: str) -> None:
    web.page("/cat.jpg", status=status)
    assert refusal(lambda: https.read("https://good.org/cat.jpg", timeout_s=5))[0] == type


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_may_answer_later(web: Web, https: HttpsSource, status: int) -> None:
    web.page("/cat.jpg", status=status)
    with pytest.raises(ContentUnavailable, match=str(status)):
        https.read("https://good.org/cat.jpg", timeout_s=5)


def test_content_that_announces_too_many_bytes_is_refused_before_it_is_read(web: Web, https: HttpsSource) -> None:
    web.page("/cat.jpg", **{"Content-Length": str(MAX_BYTES + 1)})
    kind, message = refusal(lambda: https.read("https://good.org/cat.jpg", timeout_s=5))
    assert kind == "too_large"
    assert "LOWTIDE_CONTENT_MAX_BYTES" in message


def test_content_that_announces_nothing_is_cut_off_at_the_bound(web: Web, https: HttpsSource) -> None:
    left = iter(range(10_000))
    web.stream("/cat.jpg", (b"x" * 10_000 for _ in left))
    assert refusal(lambda: https.read("https://good.org/cat.jpg", timeout_s=5))[0] == "too_large"
    assert list(left)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """What the block takes: less than what unpacks to 50 MB."""
    tracemalloc.start()
    yield
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_content_that_unpacks_to_more_than_the_bound_is_not_unpacked(web: Web, https: HttpsSource) -> None:
    web.stream("/cat.jpg", [zlib.compress(bytes(50_000_000))], **{"Content-Encoding": "deflate"})
    with little_memory():
        assert refusal(lambda: https.read("https://good.org/cat.jpg", timeout_s=5))[0] == "too_large"


@pytest.mark.parametrize(
    ("pieces", "pause_s", "headers"),
    [
        ([b"x", *[bytes(1_000_000)] * 50], 0.0, {}),
        ([zlib.compress(bytes(50_000_000)), *[bytes(1_000_000)] * 50], 0.0, {"Content-Encoding": "deflate"}),
        ([b"x"] * 51, 1.0, {}),
    ],
    ids=["large", "packed", "dripping"],
)
def test_of_a_redirect_only_its_target_is_read(
    web: Web, https: HttpsSource, pieces: list[bytes], pause_s: float, headers: dict[str, str]
) -> None:
    web.stream("/moved.jpg", pieces, status=302, pause_s=pause_s, Location="/cat.jpg", **headers)
    web.page("/cat.jpg", b"meow")
    with little_memory():
        assert https.read("https://good.org/moved.jpg", timeout_s=30) == b"meow"


CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    ("first", "then", "headers"),
    [(b"x", b"x", {}), (b"1;", b"a", CHUNKED), (b"1\r\na\r\n0\r\n", b"X-More: b\r\n", CHUNKED)],
    ids=["content", "the size of a chunk", "trailers"],
)
def test_a_server_that_drips_is_left_at_the_deadline(
    web: Web, https: HttpsSource, first: bytes, then: bytes, headers: dict[str, str]
) -> None:
    web.stream("/cat.jpg", [first, *[then] * 3000], pause_s=0.02, **headers)
    began_s = time.monotonic()
    with pytest.raises(ContentUnavailable, match="not here in time"):
        https.read("https://good.org/cat.jpg", timeout_s=0.2)
    assert time.monotonic() - began_s < 30.0


def test_a_body_that_breaks_off_may_be_whole_next_time(web: Web, https: HttpsSource) -> None:
    web.page("/cat.jpg", b"x" * 50, **{"Content-Length": "100"})
    with pytest.raises(ContentUnavailable):
        https.read("https://good.org/cat.jpg", timeout_s=5)


def test_a_server_that_is_away_may_be_back(web: Web, https: HttpsSource) -> None:
    web.close()
    with pytest.raises(ContentUnavailable):
        https.read("https://good.org/cat.jpg", timeout_s=5)


# file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "my cat.jpg").write_bytes(b"meow")
    return root


@pytest.fixture
def files(root: Path) -> FileSource:
    return FileSource(roots=(str(root),), max_bytes=MAX_BYTES)


def test_a_file_under_a_root_is_read(files: FileSource, root: Path) -> None:
    assert files.read(f"file://{root}/my%20cat.jpg", timeout_s=5) == b"meow"
    assert files.read(f"file://localhost{root}/my%20cat.jpg", timeout_s=5) == b"meow"


def test_a_link_within_a_root_is_followed(files: FileSource, root: Path) -> None:
    (root / "link").symlink_to("my cat.jpg")
    assert files.read(f"file://{root}/link", timeout_s=5) == b"meow"


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "/out", "/folder/secret", "/../missing", "2/file"])
def test_what_leads_out_of_the_roots_is_forbidden(files: FileSource, root: Path, path: str) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    (root / "folder").symlink_to(root.parent)
    kind, message = refusal(lambda: files.read(f"file://{root}{path}", timeout_s=5))
    assert (kind, message) == (
        "forbidden",
        f"file://{root}{path} is not allowed: add its folder to LOWTIDE_FILE_ROOTS",
    )


def test_a_folder_that_becomes_a_link_after_the_look_leads_out_of_no_root(
    files: FileSource, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = root / "inside", root.parent / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "cat.jpg").write_bytes(folder.name.encode())
    look = FileSource._allowed

    def swapped_after_the_look(source: FileSource, uri: str) -> Path:
        path = look(source, uri)
        inside.rename(root / "before")
        inside.symlink_to(outside)
        return path

    monkeypatch.setattr(FileSource, "_allowed", swapped_after_the_look)
    kind, _ = refusal(lambda: files.read(f"file://{root}/inside/cat.jpg", timeout_s=1))
    assert kind == "forbidden"


def test_without_roots_no_file_is_read(root: Path) -> None:
    files = FileSource(roots=(), max_bytes=MAX_BYTES)
    assert refusal(lambda: files.read(f"file://{root}/my%20cat.jpg", timeout_s=5))[0] == "forbidden"


def test_a_missing_file_a_folder_and_a_pipe_are_not_found(files: FileSource, root: Path) -> None:
    os.mkfifo(root / "pipe")
    for path in ("missing", "my cat.jpg/missing", "", "pipe"):
        assert refusal(lambda path=path: files.read(f"file://{root}/{path}", timeout_s=5))[0] == "not_found"


def test_a_name_that_is_too_long_for_any_file_is_not_tried_again(files: FileSource, root: Path) -> None:
    assert refusal(lambda: files.read(f"file://{root}/{'a' * 300}", timeout_s=1.0))[0] == "not_found"


@pytest.mark.parametrize(
    "uri", ["file://other.host/a", "file:///a%00b", "file:///a?%00", "file:///a#\0", "file://[x/a"]
)
def test_what_is_no_path_here_is_refused(files: FileSource, uri: str) -> None:
    assert refusal(lambda: files.read(uri, timeout_s=5))[0] == "invalid_uri"


def test_a_file_over_the_bound_is_too_large(files: FileSource, root: Path) -> None:
    (root / "big").write_bytes(b"x" * (MAX_BYTES + 1))
    assert refusal(lambda: files.read(f"file://{root}/big", timeout_s=5))[0] == "too_large"


# gs


@pytest.fixture
def bucket(web: Web, monkeypatch: pytest.MonkeyPatch) -> Iterator[GsSource]:
    """Cloud Storage, as far as a download needs it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{web.port}")
    clients: list[storage.Client] = []

    def client() -> storage.Client:
        clients.append(storage.Client(project="p", credentials=AnonymousCredentials()))
        return clients[-1]

    yield GsSource(buckets=("cats",), max_bytes=MAX_BYTES, client=client)
    assert len(clients) <= 1
    for made in clients:
        made.close()


def serve_object(web: Web, name: str, body: bytes) -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        first, last = map(int, to.headers["Range"].removeprefix("bytes=").split("-"))
        piece = body[first : last + 1]
        to.send_response(206 if piece else 416)
        to.send_header("Content-Range", f"bytes {first}-{first + len(piece) - 1}/{len(body)}")
        to.send_header("Content-Length", str(len(piece)))
        to.end_headers()
        to.wfile.write(piece)

    web.pages[f"/download/storage/v1/b/cats/o/{name}"] = answer


def test_an_object_is_read_where_the_emulator_variable_points(web: Web, bucket: GsSource) -> None:
    serve_object(web, "a%2Fcat.jpg", b"meow")
    serve_object(web, "empty", b"")
    assert bucket.read("gs://cats/a/cat.jpg", timeout_s=5) == b"meow"
    assert bucket.read("gs://cats/empty", timeout_s=5) == b""


def test_a_generation_that_is_named_is_asked_for_and_says_so_when_it_is_gone(web: Web, bucket: GsSource) -> None:
    serve_object(web, "cat.jpg", b"meow")
    assert bucket.read("gs://cats/cat.jpg", timeout_s=5, generation="1767225600000001") == b"meow"
    assert any("cat.jpg?alt=media&generation=1767225600000001" in asked for asked in web.asked)

    kind, message = refusal(lambda: bucket.read("gs://cats/gone.jpg", timeout_s=5, generation="17"))
    assert kind == "not_found"
    assert message == "gs://cats/gone.jpg: generation 17 is gone: the object was overwritten or deleted since"


def test_a_generation_without_a_byte_is_named(web: Web, bucket: GsSource) -> None:
    serve_object(web, "empty", b"")
    kind, message = refusal(lambda: bucket.read("gs://cats/empty", timeout_s=5, generation="17"))
    assert (kind, message) == ("empty_object", "gs://cats/empty: generation 17 is empty")


def test_a_generation_in_the_name_is_told_where_it_belongs(bucket: GsSource) -> None:
    message = refusal(lambda: bucket.read("gs://cats/cat.jpg#1767225600000001", timeout_s=5))[1]
    assert message.endswith("there is no such object; a generation has a field of its own")


@pytest.mark.parametrize("name", ["a#1", "a?b=c", "100%", "a//b", "/a", "ü ✓", "a#17?generation=18"])
def test_whatever_a_name_holds_it_names_that_object(web: Web, bucket: GsSource, name: str) -> None:
    serve_object(web, quote(name, safe=""), b"meow")
    assert bucket.read(f"gs://cats/{name}", timeout_s=5, generation="17") == b"meow"


def test_an_object_over_the_bound_is_too_large_and_never_read_whole(web: Web, bucket: GsSource) -> None:
    serve_object(web, "big", b"x" * 100 * MAX_BYTES)
    serve_object(web, "just", b"x" * MAX_BYTES)
    assert refusal(lambda: bucket.read("gs://cats/big", timeout_s=5))[0] == "too_large"
    assert len(bucket.read("gs://cats/just", timeout_s=5)) == MAX_BYTES


def test_an_object_that_is_stored_packed_is_not_unpacked_beyond_the_bound(web: Web, bucket: GsSource) -> None:
    """Cloud Storage unpacks it itself only for who does not take gzip; the library says that it does."""
    for name, size in {"small": 4, "bomb": 50_000_000}.items():
        packed = gzip.compress(bytes(size))
        web.page(f"/download/storage/v1/b/cats/o/{name}", packed, status=206, **{"Content-Encoding": "gzip"})
    assert bucket.read("gs://cats/small", timeout_s=5) == bytes(4)
    with little_memory():
        assert refusal(lambda: bucket.read("gs://cats/bomb", timeout_s=5))[0] == "too_large"


@pytest.mark.parametrize(("status", "type"), [(404, "not_found"), (403, "forbidden")])
def test_what_cloud_storage_refuses_fails(web: Web, bucket: GsSource, status: int, type: str) -> None:
    web.page("/download/storage/v1/b/cats/o/cat", status=status)
    assert refusal(lambda: bucket.read("gs://cats/cat", timeout_s=5))[0] == type


@pytest.mark.parametrize("status", [429, 503])
def test_cloud_storage_in_trouble_may_answer_later(web: Web, bucket: GsSource, status: int) -> None:
    web.page("/download/storage/v1/b/cats/o/cat", status=status)
    with pytest.raises(ContentUnavailable):
        bucket.read("gs://cats/cat", timeout_s=5)


def test_a_bucket_that_is_not_listed_is_never_asked(web: Web, bucket: GsSource) -> None:
    kind, message = refusal(lambda: bucket.read("gs://dogs/rex.jpg", timeout_s=5))
    assert (kind, message) == ("forbidden", "gs://dogs/rex.jpg is not allowed: add its bucket to LOWTIDE_GS_BUCKETS")
    assert web.asked == []


def test_what_is_no_name_of_a_bucket_is_refused(web: Web, bucket: GsSource) -> None:
    anywhere = GsSource(buckets=["*"], max_bytes=MAX_BYTES, client=bucket._new_client)
    assert refusal(lambda: anywhere.read("gs://-cats-/a", timeout_s=5.0))[0] == "invalid_uri"
    assert web.asked == []


def test_a_uri_without_an_object_is_refused(bucket: GsSource) -> None:
    assert refusal(lambda: bucket.read("gs://cats/", timeout_s=5))[0] == "invalid_uri"


# tries


class Flaky:
    def __init__(self, *, failures: int, error: type[ContentError] = ContentUnavailable) -> None:
        self.failures = failures
        self.error = error
        self.timeouts_s: list[float] = []

    def read(self, uri: str, *, timeout_s: float, generation: str | None = None) -> bytes:
        self.timeouts_s.append(timeout_s)
        if len(self.timeouts_s) <= self.failures:
            raise self.error("away")
        return b"meow"


def test_a_third_try_may_bring_it() -> None:
    source = Flaky(failures=2)
    assert Fetcher({"x": source}, timeout_s=30, sleep=lambda _: None).fetch("x://a") == b"meow"
    assert all(25 < timeout_s <= 30 for timeout_s in source.timeouts_s)


@pytest.mark.parametrize(
    ("error", "timeout_s", "tries"),
    [(ContentUnavailable, 30, 3), (ContentUnavailable, 0.1, 1), (ContentError, 30, 1)],
    ids=["not a fourth time", "not after the time is over", "not what can never be had"],
)
def test_it_is_tried_again(error: type[ContentError], timeout_s: float, tries: int) -> None:
    source = Flaky(failures=3, error=error)
    with pytest.raises(error):
        Fetcher({"x": source}, timeout_s=timeout_s, sleep=lambda _: None).fetch("x://a")
    assert len(source.timeouts_s) == tries


@pytest.mark.parametrize("uri", ["ftp://good.org/a", "/etc/passwd", "HTTP://good.org/", "data:,a"])
def test_a_scheme_without_a_source_is_forbidden(uri: str) -> None:
    fetcher = Fetcher(sources(Settings()), timeout_s=1)
    assert refusal(lambda: fetcher.fetch(uri)) == (
        "forbidden",
        f"{uri} is not allowed: expected a URI that begins with gs://, https://, file://",
    )

import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lowtide.config import Settings, SettingsError, load_settings
from lowtide.config.process.preemption import (
    GOOGLE,
    MAINTENANCE,
    PREEMPTED,
    Metadata,
    Preemption,
    metadata_url,
    wait_while_announced,
)
from lowtide.local.metadata import MetadataServer
from tests.waiting import until

PATIENCE_S = 10.0


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as running:
        yield running


@pytest.fixture
def heard(server: MetadataServer) -> Iterator[threading.Event]:
    event = threading.Event()
    watcher = Preemption(Settings(metadata_url=server.url), on_notice=event.set)
    watcher.start()
    yield event
    watcher.stop()


def test_a_preemption_is_heard_while_the_request_hangs(server: MetadataServer, heard: threading.Event) -> None:
    assert not heard.wait(0.3)
    server.announce(PREEMPTED, "TRUE")
    assert heard.wait(PATIENCE_S)


def test_a_notice_from_before_the_start_is_heard(server: MetadataServer) -> None:
    server.announce(PREEMPTED, "TRUE")
    event = threading.Event()
    Preemption(Settings(metadata_url=server.url), on_notice=event.set).start()
    assert event.wait(PATIENCE_S)


def test_only_a_maintenance_that_ends_the_machine_is_heard(server: MetadataServer) -> None:
    event = threading.Event()
    Preemption(Settings(metadata_url=server.url), on_notice=event.set, wait_s=0.05).start()
    server.announce(MAINTENANCE, "MIGRATE_ON_HOST_MAINTENANCE")
    assert not event.wait(0.3)
    server.announce(MAINTENANCE, "TERMINATE_ON_HOST_MAINTENANCE")
    assert event.wait(PATIENCE_S)


def test_after_a_stop_nothing_is_heard(server: MetadataServer) -> None:
    event = threading.Event()
    watcher = Preemption(Settings(metadata_url=server.url), on_notice=event.set)
    watcher.start()
    watcher.stop()
    server.announce(PREEMPTED, "TRUE")
    assert not event.wait(0.3)


def test_an_answer_of_503_is_asked_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Its documentation says that the server may be away for a second."""
    statuses = [503, 503, 503, 200]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else 200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"TRUE")

        def log_message(self, format: str, *args: object) -> None: ...

    caplog.set_level(logging.INFO)
    event = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        settings = Settings(metadata_url=f"http://127.0.0.1:{server.server_port}/")
        Preemption(settings, on_notice=event.set, again_s=0.02).start()
        assert event.wait(PATIENCE_S)
        server.shutdown()
    assert [caplog.text.count(f"can't be read: {word}") for word in ("trying on", "back after")] == [1, 1]


def waiting_for(server: MetadataServer, **options: Any) -> threading.Thread:
    settings = Settings(metadata_url=server.url)
    thread = threading.Thread(target=wait_while_announced, args=(settings,), kwargs={"again_s": 0.02, **options})
    thread.start()
    return thread


def test_who_starts_under_a_notice_waits_until_it_is_withdrawn(
    server: MetadataServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.announce(PREEMPTED, "TRUE")
    waiting = waiting_for(server)
    until(lambda: "waiting without taking work" in caplog.text)
    time.sleep(0.1)
    assert waiting.is_alive()
    server.announce(PREEMPTED, "FALSE")
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()


def test_who_waits_under_a_notice_ends_at_a_stop(server: MetadataServer) -> None:
    server.announce(MAINTENANCE, "TERMINATE_ON_HOST_MAINTENANCE")
    stopped = threading.Event()
    waiting = waiting_for(server, stopped=stopped.is_set)
    stopped.set()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()


def test_a_server_that_is_not_there_holds_nobody_up() -> None:
    wait_while_announced(Settings(metadata_url="http://127.0.0.1:1"))
    with pytest.raises(OSError, match="refused"):
        Metadata("http://127.0.0.1:1").announced()


def test_notices_are_read_where_the_settings_say_else_on_a_compute_engine_vm(tmp_path: Path) -> None:
    google, other = tmp_path / "google", tmp_path / "other"
    google.write_text("Google Compute Engine\n")
    other.write_text("Standard PC\n")
    unset = Settings(metadata_url="")

    assert metadata_url(unset, environ={}, product=google) == GOOGLE
    assert metadata_url(unset, environ={}, product=other) is None
    assert metadata_url(unset, environ={}, product=tmp_path / "absent") is None
    assert metadata_url(unset, environ={"GCE_METADATA_HOST": "1.2.3.4:80"}, product=other) == "http://1.2.3.4:80"
    assert metadata_url(Settings(metadata_url="none"), environ={}, product=google) is None
    assert metadata_url(Settings(metadata_url="http://x/"), environ={}, product=google) == "http://x"
    with pytest.raises(SettingsError, match="LOWTIDE_METADATA_URL"):
        load_settings(metadata_url="ftp://x")


def test_a_server_that_does_not_say_what_changed_is_asked_now_and_then() -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"FALSE")

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        watcher = Preemption(Settings(metadata_url=f"http://127.0.0.1:{server.server_port}"), again_s=3600.0)
        watcher.start()
        until(lambda: len(asked) == 2, what="each key once")
        time.sleep(0.2)  # for one too many
        watcher.stop()
        server.shutdown()
    assert len(asked) == 2

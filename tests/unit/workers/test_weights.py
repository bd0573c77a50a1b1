import json
import os
import threading
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from torch import nn

from lowtide.workers import weights
from lowtide.workers.weights import WeightsError, file_version, fill, load_state_dict, weights_file

BYTES = b"weights" * 1000


class Store:
    """An HTTP server that has one object, at an https URI and, as Cloud Storage's JSON API, at a gs URI."""

    def __init__(self):
        self.content = BYTES
        self.tag = "1"
        self.sent = 0
        self.cut_off = False
        self.says_size = True

    def answer(self, handler):
        path = handler.path.partition("?")[0]
        if path == "/storage/v1/b/bucket/o/folder%2Fw.pt":
            about = {"name": "folder/w.pt", "bucket": "bucket", "generation": self.tag, "size": str(len(self.content))}
            self.reply(handler, json.dumps(about).encode())
        elif path in ("/folder/w.pt", "/download/storage/v1/b/bucket/o/folder%2Fw.pt"):
            self.sent += 1
            self.reply(handler, self.content)
        else:
            handler.send_error(404)

    def reply(self, handler, body):
        handler.send_response(200)
        handler.send_header("ETag", self.tag)
        if self.says_size:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2] if self.cut_off else body)


@pytest.fixture
def store(monkeypatch):
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            store.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        get = requests.get
        monkeypatch.setattr(
            requests, "get", lambda uri, **rest: get(uri.replace("https://models.test", address), **rest)
        )
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        yield store
        server.shutdown()


@pytest.fixture(params=["https://models.test/folder/w.pt", "gs://bucket/folder/w.pt"])
def uri(request):
    return request.param


def test_a_file_uri_is_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "my weights.pt"
    path.write_bytes(BYTES)
    assert weights_file(path.as_uri()) == path


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no file .*absent\.pt"):
        weights_file((tmp_path / "absent.pt").as_uri())


@pytest.mark.parametrize("uri", ["/plain/path.pt", "http://host/w.pt", "s3://bucket/w.pt"])
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(WeightsError, match="expected a file://, gs:// or https:// URI"):
        weights_file(uri)


def test_a_download_is_kept_for_the_next_start(store: Store, uri: str, tmp_path: Path) -> None:
    first = weights_file(uri, cache=tmp_path)
    assert first.read_bytes() == BYTES
    assert weights_file(uri, cache=tmp_path) == first
    assert first.name.endswith("-w.pt")
    assert store.sent == (2 if uri.startswith("https") else 1)  # https: asked again, but the body isn't read


def test_a_replaced_object_is_downloaded_again(store: Store, uri: str, tmp_path: Path) -> None:
    weights_file(uri, cache=tmp_path)
    store.content, store.tag = b"newer" * 1000, "2"
    assert weights_file(uri, cache=tmp_path).read_bytes() == store.content


def test_a_download_that_is_cut_off_leaves_nothing(store: Store, uri: str, tmp_path: Path) -> None:
    weights_file(uri, cache=tmp_path / "good")
    store.cut_off = True
    with pytest.raises(WeightsError, match="can't be read"):
        weights_file("https://models.test/folder/w.pt", cache=tmp_path / "bad")
    assert not list((tmp_path / "bad").iterdir())


def test_a_file_that_is_too_large_is_not_downloaded(store: Store, uri: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="larger than 100 bytes"):
        weights_file(uri, cache=tmp_path / "cache", max_bytes=100)
    assert not (tmp_path / "cache").exists()


def test_a_file_that_does_not_say_its_size_is_bounded_too(store: Store, tmp_path: Path) -> None:
    store.says_size = False
    with pytest.raises(WeightsError, match="larger than 100 bytes"):
        weights_file("https://models.test/folder/w.pt", cache=tmp_path, max_bytes=100)
    assert not list(tmp_path.iterdir())


def test_what_is_not_there_is_named(store: Store, uri: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pt can't be read: .*404"):
        weights_file(uri.replace("w.pt", "absent.pt"), cache=tmp_path)


def test_downloads_go_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.default_cache() == tmp_path / "lowtide" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.default_cache() == Path.home() / ".cache" / "lowtide" / "weights"


def saved(value, tmp_path):
    path = tmp_path / "w.pt"
    torch.save(value, path)
    return path


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_state_dict_round_trips(wrap: Any, tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    fill(target, load_state_dict(saved(wrap(source.state_dict()), tmp_path)), source="w.pt")
    assert torch.equal(source.weight, target.weight)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = saved({"weight": Evil(str(marker))}, tmp_path)
    with pytest.raises(WeightsError, match="not a file of weights that torch loads safely"):
        load_state_dict(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 half a zip", b"\x87", b"\xff" * 500])
def test_a_file_that_is_not_weights_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a file of weights"):
        load_state_dict(path)


@pytest.mark.parametrize("value", [{"epoch": 3}, [1, 2], torch.ones(3)])
def test_a_file_without_a_state_dict_is_refused_with_advice(value: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"torch\.save\(module\.state_dict\(\)"):
        load_state_dict(saved(value, tmp_path))


def test_weights_of_another_architecture_are_refused_by_name_and_shape() -> None:
    with pytest.raises(WeightsError, match="missing: 0.weight, 0.bias; unexpected: weight, bias") as caught:
        fill(nn.Sequential(nn.Linear(3, 2)), nn.Linear(3, 2).state_dict(), source="file:///w.pt")
    assert "file:///w.pt" in str(caught.value)
    with pytest.raises(WeightsError, match="weight is 2x3 instead of 5x3"):
        fill(nn.Linear(3, 5), nn.Linear(3, 2).state_dict(), source="w")


def test_a_long_list_of_differences_is_cut_short() -> None:
    with pytest.raises(WeightsError, match="unexpected: 0.weight, 0.bias, 1.weight and 17 more"):
        fill(nn.Linear(1, 1), nn.Sequential(*(nn.Linear(1, 1) for _ in range(10))).state_dict(), source="w")


def test_old_files_without_batch_counters_are_good() -> None:
    norm = nn.BatchNorm2d(3)
    state = OrderedDict((name, value) for name, value in norm.state_dict().items() if "num_batches" not in name)
    fill(nn.BatchNorm2d(3), state, source="w")


def test_the_version_is_the_contents_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abc")
    # Published: FIPS 180-2, appendix B.1
    assert file_version(tmp_path / "a") == file_version(tmp_path / "b") == "ba7816bf8f01"

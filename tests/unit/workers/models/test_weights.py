import argparse
import json
import os
import pickle
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import torch
from safetensors.torch import save_file
from torch import nn

from lowtide.workers.models import weights
from lowtide.workers.models.state_dict import WeightsError
from lowtide.workers.models.weights import file_version, fill, load_state_dict, weights_file

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
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
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


def test_a_state_dict_round_trips(tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    fill(target, load_state_dict(saved(source.state_dict(), tmp_path)), source="w.pt")
    assert torch.equal(source.weight, target.weight)


def test_a_checkpoint_of_a_script_with_its_arguments_is_good(tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    checkpoint = {"model": nn.DataParallel(source).state_dict(), "args": argparse.Namespace(lr=0.1), "epoch": 3}
    fill(target, load_state_dict(saved(checkpoint, tmp_path)), source="w.pt")
    assert torch.equal(source.weight, target.weight)


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    save_file(source.state_dict(), tmp_path / "pytorch_model.bin")
    fill(target, load_state_dict(tmp_path / "pytorch_model.bin"), source="w.pt")
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize("length", [100, -1])
def test_safetensors_that_are_cut_off_are_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(nn.Linear(3, 2).state_dict(), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(WeightsError, match=r"can't be read as safetensors: .*If it is cut off"):
        load_state_dict(path)


def test_without_the_library_a_file_of_safetensors_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(nn.Linear(3, 2).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(WeightsError, match="pip install safetensors"):
        load_state_dict(tmp_path / "w.safetensors")


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


def test_a_whole_module_is_refused_with_what_is_in_it_and_what_to_save(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear.*save the state dict alone") as caught:
        load_state_dict(saved(nn.Linear(3, 2), tmp_path), source="gs://models/w.pt")
    assert str(caught.value).startswith("gs://models/w.pt is not a file of weights that torch loads safely: ")
    assert "trust" not in str(caught.value), "torch's own advice is to run the code"


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_is_cut_off_is_refused(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(nn.Linear(300, 2).state_dict(), path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match=r"not a file of weights.* cut off"):
        load_state_dict(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_torch_did_not_save_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"weight": [1.0]}, protocol=4))
    with pytest.raises(WeightsError, match=r"it is no pickle of torch\.save's"):
        load_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"PK\x03\x04 half a zip", b"\x87", b"\x80\x02", b"\xff" * 500]
)
def test_a_file_that_is_not_weights_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a file of weights"):
        load_state_dict(path)


def test_a_folder_is_refused_with_the_files_in_it_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"is a folder: name the file in it: model\.safetensors$"):
        weights_file(tmp_path.as_uri())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gs://cats can't be read: .*Is a directory"):
        load_state_dict(tmp_path, source="gs://cats")


def test_a_path_without_a_scheme_is_refused_with_its_uri() -> None:
    with pytest.raises(WeightsError, match=r"did you mean file:///models/my%20cats\.pth\?"):
        weights_file("/models/my cats.pth")
    with pytest.raises(WeightsError, match=f"did you mean {re.escape(Path.cwd().as_uri())}/cats.pth"):
        weights_file("cats.pth")


def test_the_version_is_the_contents_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abc")
    # Published: FIPS 180-2, appendix B.1
    assert file_version(tmp_path / "a") == file_version(tmp_path / "b") == "ba7816bf8f01"

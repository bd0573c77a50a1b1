import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from lowtide.workers.models.file_kind import is_safetensors, other_kind


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("cats.pth"))
    return file.getvalue()


def array():
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


def checkpoint(**options):
    file = io.BytesIO()
    torch.save(nn.Linear(3, 2).state_dict(), file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.pth", b"", "empty: copy or download it again"),
        ("w.pth", b"\n <!DOCTYPE html><html>Not found</html>", "a web page (HTML)"),
        ("w.pth", b"\xef\xbb\xbf<html>", "a web page (HTML)"),
        ("w.pth", b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "an XML document"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 3\n", "a Git LFS pointer"),
        ("w.json", json.dumps({"metadata": {}, "weight_map": {"a": "b"}}).encode(), "the index of weights"),
        ("config.json", b'{"architectures": []}', "JSON text"),
        ("w.h5", b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file, as Keras and TensorFlow save"),
        ("w.keras", zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras archive"),
        ("w.npz", zipped("a.npy"), "arrays of NumPy's"),
        ("w.npy", array(), "an array of NumPy's"),
        ("w.gguf", b"GGUF\3\0\0\0", "a GGUF file"),
        ("w.onnx", b"anything", "an ONNX model"),
        ("w.pth", b"\x08\x08\x12\x07pytorch\x1a\x032.1", "an ONNX model"),
        ("w.tflite", b"\x1c\0\0\0TFL3\0", "a model of TensorFlow's"),
        ("saved_model.pb", b"\x08\x01\x12", "a model of TensorFlow's"),
        ("w.pt", zipped("net/code/net.py", "net/constants.pkl", "net/data.pkl"), "a TorchScript archive"),
        ("w.pt2", zipped("w/archive_format", "w/models/model.json"), "an exported program"),
        ("w.zip", zipped("cats.pth", "readme.txt"), "a zip archive of cats.pth, readme.txt: unpack it"),
        ("w.tar.gz", gzip.compress(b"x", mtime=0), "a gzip archive: unpack it"),
        ("w.tar", tarred(), "a tar archive: unpack it"),
        ("w.pth", checkpoint()[:300], "the beginning of a checkpoint or zip archive, cut off"),
        ("w.pth", b"RIFF\0\0\0\0WAVE", "in none of the formats of PyTorch or safetensors"),
        ("w.pth", b"hello", "in none of the formats of PyTorch or safetensors"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_weights_is_told_with_what_to_do(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert str(other_kind(tmp_path / name)).startswith(words)
    assert not is_safetensors(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_of_pytorch_are_none_of_these_whatever_they_are_called(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pth.tar"
    path.write_bytes(checkpoint(_use_new_zipfile_serialization=not legacy))
    assert other_kind(path) is None
    assert not is_safetensors(path)


def test_safetensors_are_known_by_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(save(nn.Linear(3, 2).state_dict()))
    assert is_safetensors(tmp_path / "w.bin")

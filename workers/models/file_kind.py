"""What a file is that was named as weights and holds none that can be loaded: in words, with what to do."""

import re
import tarfile
import zipfile
from pathlib import Path

HEAD_BYTES = 1024
ENDINGS = frozenset({".pt", ".pth", ".bin", ".ckpt", ".safetensors"})
"""Of files of weights, as people name them."""

SAVE = "save the state dict alone: torch.save(module.state_dict(), path), or safetensors"
CONVERT = "these are no weights of PyTorch's; load them with the library that saved them, and " + SAVE
AGAIN = "copy or download it again"
UNPACK = "unpack it, and name the file of weights in it"

BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer in the file's place: `git lfs pull` brings the file"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras and TensorFlow save: {CONVERT}"),
    (b"GGUF", f"a GGUF file, as llama.cpp uses: {CONVERT}"),
    (b"\x93NUMPY", f"an array of NumPy's: {CONVERT}"),
    (b"\x1f\x8b", f"a gzip archive: {UNPACK}"),
    (b"BZh", f"a bzip2 archive: {UNPACK}"),
    (b"\xfd7zXZ", f"an xz archive: {UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"a Zstandard archive: {UNPACK}"),
    (b"7z\xbc\xaf", f"a 7z archive: {UNPACK}"),
    (b"Rar!", f"a RAR archive: {UNPACK}"),
)

ZIPPED = (
    (r"(^|/)constants\.pkl$", "a TorchScript archive: torch.jit.load it, and " + SAVE),
    (r"(^|/)(archive_format|serialized_exported_program\.json)$", "an exported program: load its module, and " + SAVE),
    (r"(^|/)model\.weights\.h5$", f"a Keras archive: {CONVERT}"),
    (r"\.npy$", f"arrays of NumPy's: {CONVERT}"),
)
"""Names in a zip archive that tell what it is. PyTorch's own checkpoints are zip archives, too."""

PICKLE = b"\x80"
"""So began PyTorch's checkpoints before they were zip archives."""
CHECKPOINT = re.compile(r"(^|/)data\.pkl$")
ONNX = re.compile(
    rb"\x08[\x01-\x20][\x10-\x42].{0,40}(pytorch|onnx|tf2onnx|keras2onnx|skl2onnx)", re.DOTALL | re.IGNORECASE
)
SAFETENSORS_HEAD_MAX_BYTES = 100_000_000
"""The format's own bound."""


def is_safetensors(path: Path) -> bool:
    """True for a file in the format of safetensors, whatever its name: the length of a JSON object, and the object."""
    head = _head(path)
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= SAFETENSORS_HEAD_MAX_BYTES


def other_kind(path: Path) -> str | None:
    """`a gzip archive: unpack it, …`: what a file that holds no PyTorch weights is; None if nothing tells so."""
    head = _head(path)
    if not head:
        return f"empty: {AGAIN}"
    for beginning, words in BEGINNINGS:
        if head.startswith(beginning):
            return words
    if head.startswith(b"PK"):
        return _zipped(path)
    if tarfile.is_tarfile(path):
        return f"a tar archive: {UNPACK}"
    if head[4:8] == b"TFL3" or path.suffix == ".pb":
        return f"a model of TensorFlow's: {CONVERT}"
    if path.suffix == ".onnx" or ONNX.match(head):
        return f"an ONNX model: {CONVERT}"
    return _text(head) or (
        None if head.startswith(PICKLE) else f"in none of the formats of PyTorch or safetensors: {AGAIN}"
    )


def folder_words(path: Path) -> str:
    """What to do with a folder that was named: what is in it that may be meant."""
    found = sorted(file.name for file in path.iterdir() if file.suffix in ENDINGS)
    meant = f"name the file in it: {', '.join(found[:3])}" if found else f"name a file; {SAVE}"
    return f"{path} is a folder: {meant}"


def _zipped(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - a damaged archive raises whatever its reader runs into
        return f"the beginning of a checkpoint or zip archive, cut off or damaged: {AGAIN}"
    for pattern, words in ZIPPED:
        if any(re.search(pattern, name) for name in names):
            return words
    if any(CHECKPOINT.search(name) for name in names):
        return None
    return f"a zip archive of {', '.join(names[:3]) or 'nothing'}: {UNPACK}"


def _text(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML): the address is that of a page, or of an error; name the address of the file itself"
    if text.startswith(b"<"):
        return "an XML document, as stores answer with an error: look into it, and name the address of the file itself"
    if b'"weight_map"' in text:
        return "the index of weights that lie in several files (shards): save them as one file"
    if text.startswith((b"{", b"[")):
        return f"JSON text: name the file of weights that belongs to it, or {SAVE}"
    return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)

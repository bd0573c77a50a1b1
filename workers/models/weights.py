"""Weights: a URI to a file on this machine, and a file to a module's parameters. Never runs code from a file."""

import hashlib
import os
import re
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import IO
from urllib.parse import unquote, urlsplit

import requests
import torch

from lowtide.workers.models.file_kind import AGAIN, ENDINGS, SAVE, folder_words, is_safetensors, other_kind
from lowtide.workers.models.state_dict import StateDict, WeightsError, fitted, state_dict_in

WEIGHTS_MAX_BYTES = 16 * 1024**3
"""A guard against the wrong URI, not a quota: the largest model shipped (vit_h_14) has 2.5 GB."""

PIECE_BYTES = 1024 * 1024
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""Without a byte for so long a download fails; the whole may take as long as it needs."""

UNSAFE = re.compile(r"GLOBAL (\S+) was not an allowed")
"""In what torch says of a pickle: the first class or function that it would have to call."""

SHORT_DIGITS = 12
"""Hexadecimal digits of a version: 48 bits, enough to tell the weights of one fleet apart, short enough to read."""


def weights_file(uri: str, *, cache: Path | None = None, max_bytes: int = WEIGHTS_MAX_BYTES) -> Path:
    """The file behind a `file://`, `gs://` or `https://` URI; a download is kept under `cache` for the next start.

    `cache` defaults to `$XDG_CACHE_HOME/lowtide/weights`. A file there is used again only while its etag or generation
    is what the server says, so a replaced object is noticed at the next start. Raises WeightsError.
    """
    folder = cache or default_cache()
    scheme = urlsplit(uri).scheme
    try:
        if scheme == "file":
            return _local_file(uri)
        if scheme == "gs":
            return _from_storage(uri, folder, max_bytes=max_bytes)
        if scheme == "https":
            return _from_https(uri, folder, max_bytes=max_bytes)
    except WeightsError:
        raise
    except Exception as error:  # two client libraries and the disk, each with errors of its own; the cause is chained
        raise WeightsError(f"weights {uri} can't be read: {error}") from error
    raise WeightsError(f"weights {uri!r}: expected a file://, gs:// or https:// URI{meant_file(uri)}")


def meant_file(weights: str) -> str:
    """`; did you mean file:///…?` for a path without a scheme, else nothing."""
    is_path = "://" not in weights and ("/" in weights or Path(weights).suffix in ENDINGS)
    return f"; did you mean {Path(weights).absolute().as_uri()}?" if is_path else ""


def load_state_dict(path: Path, *, source: str | None = None) -> StateDict:
    """The state dict in `path`, on the CPU: in PyTorch's format or that of safetensors, whatever its name. Of a
    checkpoint with more in it, see `state_dict_in`. `source`: what to call the file in errors, its URI say.

    Loaded with `weights_only`: a pickle that would run code is refused. Raises WeightsError.
    """
    named = source or str(path)
    try:
        in_safetensors, kind = is_safetensors(path), other_kind(path)
    except OSError as error:
        raise WeightsError(f"{named} can't be read: {error}") from error
    if in_safetensors:
        return _safetensors(path, named)
    if kind:
        raise WeightsError(f"{named} is not a file of weights, but {kind}")
    try:
        with torch.serialization.safe_globals([Namespace]):  # a script's arguments, as torchvision's scripts save them
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler that is fed with something else raises whatever its machine runs into
        raise WeightsError(f"{named} is not a file of weights that torch loads safely: {_why(error)}") from error
    return state_dict_in(loaded, source=named)


def fill(module: torch.nn.Module, state: StateDict, *, source: str) -> None:
    """Copy `state` into `module`, name by name, without the prefixes of wrappers (`module.`, `_orig_mod.`, `model.`).
    Raises WeightsError unless names and shapes agree.
    """
    module.load_state_dict(fitted(state, module, source=source))


def file_version(path: Path) -> str:
    """What identifies the weights in `path`: the beginning of the SHA-256 of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:SHORT_DIGITS]


def default_cache() -> Path:
    """Where downloads are kept (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowtide" / "weights"


def _safetensors(path: Path, named: str) -> StateDict:
    try:
        from safetensors.torch import load_file  # only for such files: a worker without it serves all others
    except ImportError as error:
        raise WeightsError(f"{named} is in the format of safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # the library's own, and whatever torch says to types that it does not know
        raise WeightsError(f"{named} can't be read as safetensors: {error}. If it is cut off, {AGAIN}") from error


def _why(error: Exception) -> str:
    """What torch has against a file, for people; torch's own advice is to run the code in it."""
    said = str(error)
    if found := UNSAFE.search(said):
        return f"it holds a whole module or other objects ({found[1]}), and to make those is to run code; {SAVE}"
    if isinstance(error, UnpicklingError):
        return f"it is no pickle of torch.save's (but pickle's or joblib's, say), or damaged; {SAVE}"
    return f"{said.partition('. ')[0].partition(chr(10))[0]}. If it is cut off, {AGAIN}"


def _local_file(uri: str) -> Path:
    path = Path(unquote(urlsplit(uri).path))
    if path.is_dir():
        raise WeightsError(f"weights {uri}: {folder_words(path)}")
    if not path.is_file():
        raise WeightsError(f"weights {uri}: there is no file {path}")
    return path


def _from_storage(uri: str, folder: Path, *, max_bytes: int) -> Path:
    from google.cloud.storage import (
        Client,
    )  # takes a second to import, and most workers load their weights from elsewhere

    bucket, _, name = uri.removeprefix("gs://").partition("/")
    blob = Client().bucket(bucket).blob(name)
    blob.reload()
    path = _cached(folder, uri, str(blob.generation))
    if not path.exists():
        _check_size(uri, int(blob.size or 0), max_bytes=max_bytes)
        with _arriving(path) as file:
            blob.download_to_file(file, if_generation_match=blob.generation)
    return path


def _from_https(uri: str, folder: Path, *, max_bytes: int) -> Path:
    with requests.get(uri, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)) as response:
        response.raise_for_status()
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        path = _cached(folder, uri, tag or "")
        if tag and path.exists():
            return path
        _check_size(uri, int(response.headers.get("Content-Length", 0)), max_bytes=max_bytes)
        with _arriving(path) as file:
            _copy(uri, response, file, max_bytes=max_bytes)
    return path


def _copy(uri: str, response: requests.Response, file: IO[bytes], *, max_bytes: int) -> None:
    arrived_bytes = 0
    for piece in response.iter_content(PIECE_BYTES):
        arrived_bytes += len(piece)
        _check_size(uri, arrived_bytes, max_bytes=max_bytes)
        file.write(piece)


def _cached(folder: Path, uri: str, tag: str) -> Path:
    """The name keeps the file's own ending, for people who look into the folder."""
    key = hashlib.sha256(f"{uri}\n{tag}".encode()).hexdigest()[:SHORT_DIGITS]
    return folder / f"{key}-{Path(urlsplit(uri).path).name}"


@contextmanager
def _arriving(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears at `path` only once it's whole: a crash leaves nothing, two processes don't mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".arriving-", delete=False) as file:
        try:
            yield file
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def _check_size(uri: str, size_bytes: int, *, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise WeightsError(f"weights {uri} are larger than {max_bytes:,} bytes")

"""Weights: a URI to a file on this machine, and a file to a module's parameters. Never runs code from a file."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import requests
import torch

from lowtide.tasks.errors import LowtideError

WEIGHTS_MAX_BYTES = 16 * 1024**3
"""A guard against the wrong URI, not a quota: the largest model shipped (vit_h_14) has 2.5 GB."""

PIECE_BYTES = 1024 * 1024
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""Without a byte for so long a download fails; the whole may take as long as it needs."""

SHORT_DIGITS = 12
"""Hexadecimal digits of a version: 48 bits, enough to tell the weights of one fleet apart, short enough to read."""


COUNTER = "num_batches_tracked"
"""Batches that a normalisation saw in training: files older than PyTorch 0.4.1 lack it, predictions don't need it."""


class WeightsError(LowtideError):
    """Raised when weights can't be had, aren't weights, or are another model's. The message says which and where."""


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
    raise WeightsError(f"weights {uri!r}: expected a file://, gs:// or https:// URI")


def load_state_dict(path: Path) -> Mapping[str, torch.Tensor]:
    """The state dict in `path`, on the CPU. A checkpoint with a `state_dict` or `model` entry gives that entry.

    Loaded with `weights_only`: a pickle that would run code is refused. Raises WeightsError.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler that is fed with something else raises whatever its machine runs into
        first_line = str(error).partition("\n")[0].rstrip()
        raise WeightsError(f"{path} is not a file of weights that torch loads safely: {first_line}") from error
    state = _unwrapped(loaded)
    if not isinstance(state, Mapping) or not all(torch.is_tensor(value) for value in state.values()):
        raise WeightsError(f"{path} has no state dict: save the weights with torch.save(module.state_dict(), path)")
    return state


def fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Copy `state` into `module`, name by name. Raises WeightsError unless names and shapes agree."""
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in wanted]
    reshaped = [
        f"{name} is {_shape(state[name])} instead of {_shape(wanted[name])}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    complaints = [*_some("missing", missing), *_some("unexpected", unexpected), *_some("of another shape", reshaped)]
    if complaints:
        why = "; ".join(complaints)
        raise WeightsError(f"{source} holds weights of another model than {type(module).__name__}: {why}")
    module.load_state_dict(state)


def file_version(path: Path) -> str:
    """What identifies the weights in `path`: the beginning of the SHA-256 of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:SHORT_DIGITS]


def default_cache() -> Path:
    """Where downloads are kept (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowtide" / "weights"


def _local_file(uri: str) -> Path:
    path = Path(unquote(urlsplit(uri).path))
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


def _unwrapped(loaded: Any) -> Any:
    """Training loops save more than weights: these are the two usual names of the part that is wanted."""
    if isinstance(loaded, Mapping):
        for name in ("state_dict", "model"):
            if isinstance(loaded.get(name), Mapping):
                return loaded[name]
    return loaded


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _some(what: str, names: list[str]) -> list[str]:
    """At most three names: of another architecture, all of them differ."""
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what}: {', '.join(names[:3])}{more}"]

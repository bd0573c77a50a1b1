"""What to run: files, folders and URIs on the command line become requests to publish."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lowtide.config.redact import redacted
from lowtide.tasks.errors import LowtideError

INLINE_MAX_BYTES = 7_000_000
"""Content that travels in the message: base64 must leave it below Pub/Sub's 10 MB on the way to a worker and back."""


class NoSource(LowtideError):
    """Raised when a path that was named does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One thing to run. `request_id` is what the user called it: a path or a URI, without its query."""

    request_id: str
    path: Path | None = None
    uri: str | None = None

    def message(self, *, local_files: bool = False) -> tuple[bytes, Mapping[str, Any]]:
        """Data and fields of the message, beside the model. Raises NoSource: the file is gone, or too large to travel.

        `local_files`: workers run on this machine, so that a large file is named instead of sent.
        """
        if self.uri is not None:
            return b"", {"uri": self.uri, "request_id": self.request_id}
        assert self.path is not None
        try:
            large = self.path.stat().st_size > INLINE_MAX_BYTES
            if large and local_files:
                return b"", {"uri": self.path.resolve().as_uri(), "request_id": self.request_id}
            if not large:
                return self.path.read_bytes(), {"request_id": self.request_id}
        except OSError as error:
            raise NoSource(f"{self.path}: {error.strerror}") from error
        raise NoSource(f"{self.path} is larger than {INLINE_MAX_BYTES:,} bytes: upload it and give its gs:// URI")


def find_sources(names: Iterable[str]) -> list[Source]:
    """Every file and URI named, each once, folders searched through. Raises NoSource."""
    found: dict[str, Source] = {}
    for name in names:
        for source in _expand(name):
            found.setdefault(source.request_id, source)
    return list(found.values())


def names_in(listing: TextIO) -> list[str]:
    """The names in a list of paths and URIs, one a line; blank lines and `#` comments are skipped."""
    return [line.strip() for line in listing if line.strip() and not line.lstrip().startswith("#")]


def _id_of(uri: str) -> str:
    """The URI; of a signed one, which nobody shall read in results, what may be shown and a word of its own."""
    shown = redacted(uri)
    return uri if shown == uri else f"{shown}{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


def _expand(name: str) -> Iterator[Source]:
    if "://" in name:
        yield Source(request_id=_id_of(name), uri=name)
        return
    path = Path(name)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
                yield Source(request_id=str(file), path=file)
    elif path.is_file():
        yield Source(request_id=str(path), path=path)
    else:
        raise NoSource(f"{name}: no such file or folder")

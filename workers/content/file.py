"""`file://`: content under the folders that the operator named, symbolic links resolved."""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lowtide.tasks.errors import ContentError, ContentUnavailable
from lowtide.workers.content.source import too_large


class FileSource:
    """Reads regular files under `roots`."""

    def __init__(self, *, roots: Iterable[str], max_bytes: int) -> None:
        self._roots = tuple(Path(root).resolve() for root in roots)
        self._max_bytes = max_bytes

    def read(self, uri: str, *, timeout_s: float, generation: str | None = None) -> bytes:
        """The file's content. A local file takes no time worth bounding."""
        path = self._allowed(uri)
        try:
            return self._read(path, uri)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ContentError(f"{uri}: there is no such file on this worker", type="not_found") from error
        except PermissionError as error:
            raise ContentError(f"{uri}: the worker's user may not read it", type="forbidden") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ContentError(f"{uri}: no file has so long a name", type="not_found") from error
            raise ContentUnavailable(f"{uri}: {error}") from error

    def _allowed(self, uri: str) -> Path:
        """Where the URI leads, after symbolic links. Nothing is said of what exists outside the roots."""
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise ContentError(f"{uri} is no URL: {error}", type="invalid_uri") from error
        if parts.netloc not in ("", "localhost") or "\0" in unquote(uri):
            raise ContentError(f"{uri} is no path on this machine: expected file:///folder/name", type="invalid_uri")
        try:
            path = Path(unquote(uri.partition("://")[2].removeprefix(parts.netloc))).resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise ContentError(f"{uri}: there is no such file on this worker", type="not_found") from error
        self._check_inside(path, uri)
        return path

    def _check_inside(self, path: Path, uri: str) -> None:
        if not any(path.is_relative_to(root) for root in self._roots):
            message = f"{uri} is not allowed: add its folder to LOWTIDE_FILE_ROOTS"
            raise ContentError(message, type="forbidden")

    def _read(self, path: Path, uri: str) -> bytes:
        with open(path, "rb", opener=_open) as file:
            # A folder on the way may have become a link since it was looked at: what counts is what was opened.
            self._check_inside(Path(f"/proc/self/fd/{file.fileno()}").readlink(), uri)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ContentError(f"{uri} is not a file", type="not_found")
            content = file.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:
            raise too_large(uri, self._max_bytes)
        return content


def _open(path: str, flags: int) -> int:
    """No link may take the resolved path's place, and opening a pipe must not wait for its other end."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

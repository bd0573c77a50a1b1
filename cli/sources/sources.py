"""What to run: files, folders and URIs on the command line and in lists become requests to publish."""

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from lowtide.cli.answers.output import STDOUT, is_stdout
from lowtide.cli.sources.listing import Listed, names_in
from lowtide.config.redact import redacted
from lowtide.config.text import is_utf8
from lowtide.tasks.errors import LowtideError

INLINE_MAX_BYTES = 7_000_000
"""Content that travels in the message: base64 must leave it below Pub/Sub's 10 MB on the way to a worker and back."""

KINDS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "device"))
NAME_SAID_CHARS = 300
"""What is taken for a list may be none."""
_ODD = re.compile(r"[\ud800-\udfff]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}")
"""What makes a name be written with escapes: what UTF-8 can't say, and what looks like an escape."""
_UNSAYABLE = re.compile(r"[\ud800-\udfff]")


class NoSource(LowtideError):
    """Raised when what was named can't be had: it is not there, no file, not readable, or too large to travel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One thing to run. `request_id`: what the user called it, a path or a URI without its query, as `readable` writes
    it. `missing`: why there is nothing to send.
    """

    request_id: str
    path: Path | None = None
    uri: str | None = None
    missing: str | None = None

    def content(self, *, local_files: bool = False) -> bytes | str:
        """The content, or the URI where it is. Raises NoSource.

        `local_files`: workers run on this machine, so that a large file is named instead of sent.
        """
        if self.missing is not None:
            raise NoSource(self.missing)
        if self.uri is not None:
            return _checked(self.uri)
        assert self.path is not None
        try:
            return self._read(self.path, local_files=local_files)
        except OSError as error:
            raise NoSource(f"{self.request_id}: {error.strerror}") from error

    @property
    def is_large(self) -> bool:
        """True for a file that is too large to travel."""
        try:
            return self.path is not None and self.path.stat().st_size > INLINE_MAX_BYTES
        except OSError:
            return False

    def _read(self, path: Path, *, local_files: bool) -> bytes | str:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # looked at before it is opened: a pipe or a device would feel it
            raise NoSource(f"{self.request_id}: is a {_kind(mode)}, not a file")
        with open(path, "rb", opener=_open) as file:
            content = file.read(INLINE_MAX_BYTES + 1)
        return content if len(content) <= INLINE_MAX_BYTES else self._named(path, local_files=local_files)

    def _named(self, path: Path, *, local_files: bool) -> str:
        """A large file, to workers of this machine."""
        real = os.path.realpath(path)
        too_large = f"{self.request_id}: is larger than {INLINE_MAX_BYTES:,} bytes"
        if not local_files:
            raise NoSource(f"{too_large}: upload it and give its gs:// URI")
        if not is_utf8(real):
            raise NoSource(f"{too_large}, and {readable(real)} is not UTF-8: rename it")
        return Path(real).as_uri()


def given_sources(paths: Iterable[str], from_file: BinaryIO | None, *, outputs: Collection[Path]) -> list[Source]:
    """What a command line names. Raises NoSource, and click's UsageError when it names nothing."""
    listed = names_in(from_file.read(), called=from_file.name) if from_file else ()
    if sources := find_sources(paths, listed, outputs=outputs):
        return sources
    raise click.UsageError("nothing to do: name files, folders or URIs")


def find_sources(
    paths: Iterable[str], listed: Iterable[Listed] = (), *, outputs: Collection[Path] = ()
) -> list[Source]:
    """Every file and URI named, each once, folders searched through, without the `outputs`. What can't be found is a
    source that is missing; raises NoSource when that is all, or when there is nothing in what was named.
    """
    names = [*(Listed(name=path, where="") for path in paths), *listed]
    found: dict[str, Source] = {}
    for name in names:
        for source in _expand(name):
            if not (source.path and any(_is_same(source.path, output) for output in outputs)):
                found.setdefault(source.request_id, source)
    if names and not found:
        raise NoSource(f"{readable(names[0].name)}: nothing is in it, except what begins with a dot and the output")
    missing = [source.missing for source in found.values() if source.missing]
    if missing and len(missing) == len(found):
        more = f" (and {len(missing) - 1} more that are not to be had)" if len(missing) > 1 else ""
        raise NoSource(f"{missing[0]}{more}")
    return list(found.values())


def readable(name: str) -> str:
    r"""A name as JSON, CSV and a message can hold it. A byte that is not UTF-8 is `\xe9`; then, and in a name that has
    such letters itself, a backslash is two. So no two names are written alike.

    >>> print(readable("caf\udce9/a.png"), readable(r"caf\xe9/a.png"), readable(r"a\b.png"))
    caf\xe9/a.png caf\\xe9/a.png a\b.png
    """
    if not _ODD.search(name):
        return name
    return _UNSAYABLE.sub(_escaped, name.replace("\\", "\\\\"))


def _escaped(odd: re.Match[str]) -> str:
    code = ord(odd[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _expand(listed: Listed) -> Iterator[Source]:
    name = listed.name
    if "://" in name:
        yield Source(request_id=_id_of(name), uri=name)
        return
    try:
        is_folder = bool(name) and stat.S_ISDIR(Path(name).stat().st_mode)
    except (OSError, ValueError) as error:
        yield _missing(name, error, listed.where)
        return
    if not name:  # `Path("")` is the current folder, and nobody who names a variable that is unset means that
        yield Source(request_id="", missing="an empty name is no file")
    elif is_folder:
        yield from sorted(_inside(name), key=lambda source: source.path or Path(source.request_id))
    else:
        yield _file(Path(name))


def _inside(folder: str) -> Iterator[Source]:
    """Whatever is no folder. What is no file, or not readable, is told of when it is read."""
    unreadable: list[OSError] = []
    for where, names in _folders(folder, unreadable):
        yield from (_file(Path(where, name)) for name in names if not name.startswith("."))
    yield from (_missing(str(error.filename), error, "") for error in unreadable)


def _folders(folder: str, unreadable: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """Each folder once, and what is in it. A link to one is followed when all else is done, if that folder was not met:
    no link takes a name from what is found without it, and none leads in circles.
    """
    met: set[str] = set()
    starts = [folder]
    while starts:
        links: list[str] = []
        for start in starts:
            for where, folders, names in os.walk(start, onerror=unreadable.append):
                folders[:] = [name for name in folders if not name.startswith(".")]
                real = os.path.realpath(where)
                if real in met:
                    folders.clear()
                    continue
                met.add(real)
                links += [str(path) for name in folders if (path := Path(where, name)).is_symlink()]
                yield where, names
        starts = sorted(links)


def _file(path: Path) -> Source:
    return Source(request_id=readable(str(path)), path=path)


def _missing(name: str, error: OSError | ValueError, where: str) -> Source:
    shown = readable(str(Path(name)))
    why = error.strerror if isinstance(error, OSError) else str(error)
    said = "no such file or folder" if isinstance(error, FileNotFoundError) else why
    called = shown if len(shown) <= NAME_SAID_CHARS else f"{shown[:NAME_SAID_CHARS]}…"
    return Source(request_id=shown, missing=f"{called}: {said}" + (f" ({where})" if where else ""))


def _id_of(uri: str) -> str:
    """The URI; of a signed one, which nobody shall read in results, what may be shown and a word of its own."""
    shown = redacted(readable(uri))
    signed = hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return shown if shown == readable(uri) else f"{shown}{signed}"


def _checked(uri: str) -> str:
    if not is_utf8(uri):
        raise NoSource(f"{redacted(readable(uri))}: is not UTF-8, and a URI is: percent-encode it")
    return uri


def _is_same(path: Path, output: Path) -> bool:
    if output == STDOUT:
        return is_stdout(path)
    return path.name == output.name and os.path.realpath(path) == os.path.realpath(output)


def _kind(mode: int) -> str:
    return next((kind for is_kind, kind in KINDS if is_kind(mode)), "device")


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)

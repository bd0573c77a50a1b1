"""Where results go: `.jsonl` holds them whole, `.csv` holds `filename,prediction,status,error`. A row is on disk once
written.
"""

import contextlib
import csv
import fcntl
import io
import json
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from lowtide.cli.answers.answers import Result, error_of, failed, failure_of
from lowtide.cli.answers.earlier import HEADER, Earlier, EarlierRow, read_csv, read_json_lines
from lowtide.tasks.errors import LowtideError

log = logging.getLogger(__name__)

STDOUT = Path("-")


class OutputExists(LowtideError):
    """Raised when results would be overwritten."""


class OutputFailed(LowtideError):
    """Raised when results can't be written or read: no space, no permission. The message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How rows are written and read. `head`: what stands before them. `result`: what a row says, as far as it does."""

    head: bytes
    row: Callable[[Mapping[str, Any]], bytes]
    read: Callable[[bytes, Path], Earlier]
    result: Callable[[bytes], Result]


def prediction(result: Mapping[str, Any]) -> str:
    """The best label of a result; its outputs as JSON when they are no labels; empty when there are none."""
    outputs = result.get("outputs") or []
    if not outputs:
        return ""
    first = outputs[0]
    return str(first["label"]) if isinstance(first, Mapping) and "label" in first else json.dumps(outputs)


def _json_row(result: Mapping[str, Any]) -> bytes:
    ordered = {"request_id": result["request_id"], **result}  # so that half a row is known for what it is
    try:
        return json.dumps(ordered, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: JSON can say it escaped, UTF-8 can't
        return json.dumps(ordered).encode() + b"\n"


def _csv_row(result: Mapping[str, Any]) -> bytes:
    kind, message = error_of(result)
    error = f"{kind}: {message}" if message else kind
    return _csv(result["request_id"], prediction(result), result["status"], error)


def _csv(*fields: str) -> bytes:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(fields)
    return written.getvalue().encode("utf-8", "backslashreplace")


def _csv_result(row: bytes) -> Result:
    fields = next(csv.reader(io.StringIO(row.decode(), newline="")))
    name, best, status, error = fields
    if status == "ok":
        return {"request_id": name, "status": status, "outputs": [best]}
    kind, _, message = error.partition(": ")
    return failed(name, kind or status, message, model="", status=status)


JSON_LINES = Format(head=b"", row=_json_row, read=read_json_lines, result=json.loads)
CSV = Format(head=_csv(*HEADER), row=_csv_row, read=read_csv, result=_csv_result)


class Output:
    """A file of results. When it is closed it has one row a request: that of the last try.

    `outcomes`: request id → the failure's type, None for an answer, of all that it holds.
    """

    def __init__(self, path: Path, file: BinaryIO, format: Format, earlier: Earlier) -> None:
        self.path = path
        self.outcomes = earlier.outcomes
        self._file = file
        self._format = format
        self._repeats = len(earlier.rows) > len(self.outcomes)

    def write(self, result: Mapping[str, Any]) -> None:
        """Add a result; it is on disk afterwards. Raises OutputFailed."""
        with _failing(self.path):
            row = memoryview(self._format.row(result))
            while row:
                row = row[self._file.write(row) :]
            self._file.flush()
        self._repeats |= result["request_id"] in self.outcomes
        self.outcomes[result["request_id"]] = failure_of(result)

    def held(self) -> Iterator[Result]:
        """What it holds already, of several rows of one request the last one. Raises OutputFailed."""
        if is_stream(self.path):
            return
        with _failing(self.path):
            data = self.path.read_bytes()
        for row in _latest(self._format.read(data, self.path).rows):
            yield self._format.result(data[row.start : row.end])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._repeats and not is_stream(self.path):
                self._keep_latest()
        except OSError as error:  # a folder, say, in which only this file may be written
            log.warning("%s has earlier rows of what was tried again, too; the last one counts: %s", self.path, error)
        finally:
            self._file.close()

    def _keep_latest(self) -> None:
        data = self.path.read_bytes()
        earlier = self._format.read(data, self.path)
        _replace(self.path, self._format.head, (data[row.start : row.end] for row in _latest(earlier.rows)))


def open_output(path: Path, *, model: str | None = None, resume: bool = False, overwrite: bool = False) -> Output:
    """The file, with what it already holds (with `resume`). A path of `-`, a pipe or a terminal takes JSON lines.

    Raises OutputExists when there is a file and neither `resume` nor `overwrite` says what to do with it, or it holds
    answers of another model than `model`; OutputDamaged and OutputFailed.
    """
    with _failing(path):
        if is_stream(path):
            if resume:
                raise OutputFailed(f"{path}: --resume needs a file that can be read again")
            if path == STDOUT and sys.__stdout__ is None:
                raise OutputFailed("standard output is closed: name a file, or leave it open")
            descriptor = os.dup(sys.stdout.fileno()) if path == STDOUT else os.open(path, os.O_WRONLY)
            return Output(path, os.fdopen(descriptor, "wb", buffering=0), JSON_LINES, Earlier(rows=[]))
        return _open_file(path, model=model, resume=resume, overwrite=overwrite)


def is_stdout(path: Path) -> bool:
    """True for the file that standard output writes to already, such as /dev/stdout and the file that a shell writes it
    to: opened twice, each would write over what the other has written.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # the path does not exist, or a test has put something else in stdout's place
        return False


def is_stream(path: Path) -> bool:
    """True for what is no file: standard output, a pipe, a device."""
    return path == STDOUT or (path.exists() and not stat.S_ISREG(path.stat().st_mode))


def _open_file(path: Path, *, model: str | None, resume: bool, overwrite: bool) -> Output:
    kind = CSV if path.suffix.lower() == ".csv" else JSON_LINES
    if not (resume or overwrite) and _holds_anything(path, kind):
        raise OutputExists(f"{path} exists: --resume goes on where it stopped, --overwrite begins again")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path, readable=resume)
    try:
        file.seek(0)
        data = file.read() if resume else b""
        earlier = kind.read(data, path)
        if model and (others := earlier.models - {model}):
            raise OutputExists(
                f"{path} holds answers of {', '.join(sorted(others))}, not of {model}: name another file"
            )
        file.truncate(earlier.end)
        if not file.seek(0, os.SEEK_END):
            file.write(kind.head)
        elif data[: earlier.end][-1:] != b"\n":  # an editor has taken it away
            file.write(b"\n")
    except BaseException:
        file.close()
        raise
    return Output(path, file, kind, earlier)


def _holds_anything(path: Path, kind: Format) -> bool:
    """False for a file that is missing, is empty or has a header alone: a run leaves those that could not begin."""
    if not path.exists():
        return False
    return path.stat().st_size > len(kind.head) or path.read_bytes() not in (b"", kind.head)


def _locked(path: Path, *, readable: bool) -> BinaryIO:
    """The file, which this run alone writes as long as it is open: of two, each would write over the other's rows.
    Raises OutputFailed.
    """
    while True:
        file = path.open("a+b" if readable else "ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OutputFailed(f"{path}: another run is writing it") from error
        except OSError as error:
            log.debug("%s can't be locked, as on some network file systems: %s", path, error)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # the other run ended meanwhile, and put another file in its place


def _latest(rows: Sequence[EarlierRow]) -> Iterator[EarlierRow]:
    """Of several rows of one request the last one."""
    last = {row.request_id: row for row in rows}
    return (row for row in rows if last[row.request_id] is row)


def _replace(path: Path, head: bytes, rows: Iterator[bytes]) -> None:
    """In one step: whoever looks meanwhile, and whoever comes after a crash, finds the one or the other."""
    real = path.resolve()
    with tempfile.NamedTemporaryFile(dir=real.parent, prefix=f".{real.name}.", delete=False) as made:
        try:
            made.write(head)
            made.writelines(rows)
            made.close()
            shutil.copymode(real, made.name)
            Path(made.name).replace(real)
        except BaseException:
            Path(made.name).unlink()
            raise


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    """Raises OutputFailed for what the system says of the file. A reader that went away is no error of the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"{path}: {error.strerror or error}") from error

"""What an output file holds already: read strictly, since what is taken for an answer is not asked for again."""

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lowtide.cli.answers.answers import failure_of
from lowtide.tasks.errors import LowtideError

HEADER = ("filename", "prediction", "status", "error")
HEAD = ",".join(HEADER) + "\r\n"
ROW = b'{"request_id": "'
"""How a row of JSON lines begins."""
CUT_OFF_LINES = 10
"""What a stopped process leaves behind is a row at most. More without an end is damage, and is not cut away."""

_NO_END = "unexpected end of data"
"""csv's words for a quoted field that does not end."""

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a prediction may be the whole of a model's outputs


class OutputDamaged(LowtideError):
    """Raised when an output file is not as it was written. The message names file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRow:
    """One row. `failure`: the type of what went wrong, None for an answer. `start`, `end`: where it stands, in bytes.
    `model`: whose answer it is, where that is said.
    """

    request_id: str
    failure: str | None
    start: int
    end: int
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The rows of a file, up to `end`: what stands behind is a row that was cut off."""

    rows: list[EarlierRow]
    end: int = 0

    @property
    def outcomes(self) -> dict[str, str | None]:
        """Request id → failure. Of several rows the last one counts."""
        return {row.request_id: row.failure for row in self.rows}

    @property
    def models(self) -> set[str]:
        """Those that have answered."""
        return {row.model for row in self.rows if row.model and row.failure is None}


def read_json_lines(data: bytes, path: Path) -> Earlier:
    """Raises OutputDamaged."""
    _check_encoding(data, path)
    rows: list[EarlierRow] = []
    start = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        end = start + len(line) + 1
        is_last = end > len(data)
        bare = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if bare.strip():
            row = _json_row(bare, start=start, end=min(end, len(data)))
            if isinstance(row, str) and is_last and _begins_as_ours(bare):
                return Earlier(rows=rows, end=start)
            if isinstance(row, str):
                raise _damaged(path, number, row)
            rows.append(row)
        start = end
    return Earlier(rows=rows, end=len(data))


def _begins_as_ours(line: bytes) -> bool:
    """True for the beginning of a row, and for the zeros that a power cut leaves. What else has no end is not ours."""
    return line[: len(ROW)] == ROW[: len(line)] or not line.strip(b"\0")


def _json_row(line: bytes, *, start: int, end: int) -> EarlierRow | str:
    """The row, or why it is none."""
    try:
        result = json.loads(line.decode())
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(result, dict) or not all(isinstance(result.get(name), str) for name in ("request_id", "status")):
        return "not a result: expected an object with request_id and status"
    model = result.get("model")
    return EarlierRow(
        request_id=result["request_id"],
        failure=failure_of(result),
        start=start,
        end=end,
        model=model if isinstance(model, str) else None,
    )


def read_csv(data: bytes, path: Path) -> Earlier:
    """Raises OutputDamaged."""
    _check_encoding(data, path)
    text = _csv_text(data, path)
    rows: list[EarlierRow] = []
    begun = False
    start, line = (len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0), 1
    for fields, written, next_line in _records(text):
        end = start + len(written.encode())
        if isinstance(fields, str) and (fields != _NO_END or written.count("\n") > CUT_OFF_LINES):
            raise _damaged(path, line, f"not CSV: {fields}")
        if not begun and not written.endswith("\n") and not HEAD.startswith(text.rstrip("\0")):
            raise _damaged(path, line, f"expected {','.join(HEADER)}")
        if isinstance(fields, str) or not written.endswith("\n"):
            break
        is_header = tuple(fields) == HEADER
        if not begun and not is_header:
            raise _damaged(path, line, f"expected {','.join(HEADER)}")
        if fields and not is_header:  # it stands again where files were joined
            rows.append(_csv_row(fields, path, line, start=start, end=end))
        begun, start, line = True, end, next_line
    return Earlier(rows=rows, end=start)


def _csv_text(data: bytes, path: Path) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        tail = data[error.start :]
        if error.reason == "unexpected end of data" and len(tail) < len("\U0010ffff".encode()):
            return data[: error.start].removeprefix(codecs.BOM_UTF8).decode()  # half a character was written
        raise _damaged(path, data.count(b"\n", 0, error.start) + 1, "not UTF-8") from error


def _records(text: str) -> Iterator[tuple[list[str] | str, str, int]]:
    """Fields, how they are written, and the number of the next line. Instead of fields, why the rest is no CSV."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, strict=True)
    start = 0
    while start < len(text):
        try:
            fields = next(reader)
        except csv.Error as error:
            yield str(error), text[start:], 0
            return
        end = lines.tell()
        yield fields, text[start:end], reader.line_num + 1
        start = end


def _csv_row(fields: list[str], path: Path, line: int, *, start: int, end: int) -> EarlierRow:
    if len(fields) != len(HEADER):
        raise _damaged(path, line, f"expected {len(HEADER)} columns, got {len(fields)}")
    name, _, status, error = fields
    failure = None if status == "ok" else error.partition(":")[0] or status
    return EarlierRow(request_id=name, failure=failure, start=start, end=end)


def _check_encoding(data: bytes, path: Path) -> None:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _damaged(path, 1, "UTF-16: save it as UTF-8")


def _damaged(path: Path, line: int, what: str) -> OutputDamaged:
    return OutputDamaged(
        f"{path}, line {line}: {what}. Mend it or take it out and --resume again; --overwrite begins anew"
    )

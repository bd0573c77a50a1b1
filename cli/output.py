"""Where results go: `.jsonl` holds them whole, `.csv` holds `filename,prediction`. A line is on disk once written."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lowtide.tasks.errors import LowtideError


class OutputExists(LowtideError):
    """Raised when results would be overwritten."""


class Output(Protocol):
    """A file of results."""

    def write(self, result: Mapping[str, Any]) -> None:
        """Add a result; it is on disk afterwards."""

    def close(self) -> None:
        """Close the file. Idempotent."""


def open_output(path: Path, *, resume: bool = False, overwrite: bool = False) -> tuple[Output, set[str]]:
    """The file, and the request ids that it already holds (with `resume`).

    Raises OutputExists when there is one and neither `resume` nor `overwrite` says what to do with it.
    """
    if path.exists() and not (resume or overwrite):
        raise OutputExists(f"{path} exists: --resume goes on where it stopped, --overwrite begins again")
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = CsvOutput if path.suffix == ".csv" else JsonLinesOutput
    finished = kind.finished(path) if resume and path.exists() else set()
    return kind(path, append=bool(finished)), finished


def prediction(result: Mapping[str, Any]) -> str:
    """The best label of a result; its outputs as JSON when they are no labels; empty when there are none."""
    outputs = result.get("outputs") or []
    if not outputs:
        return ""
    first = outputs[0]
    return str(first["label"]) if isinstance(first, Mapping) and "label" in first else json.dumps(outputs)


class JsonLinesOutput:
    """One result a line, as it came."""

    def __init__(self, path: Path, *, append: bool) -> None:
        self._file = path.open("a" if append else "w", encoding="utf-8", buffering=1)

    @staticmethod
    def finished(path: Path) -> set[str]:
        """Request ids of the lines that are there."""
        return {json.loads(line)["request_id"] for line in _whole_lines(path).splitlines()}

    def write(self, result: Mapping[str, Any]) -> None:
        """Add a line."""
        self._file.write(json.dumps(result, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvOutput:
    """`filename,prediction`, with a header."""

    def __init__(self, path: Path, *, append: bool) -> None:
        self._file = path.open("a" if append else "w", encoding="utf-8", newline="", buffering=1)
        self._writer = csv.writer(self._file)
        if not append:
            self._writer.writerow(("filename", "prediction"))

    @staticmethod
    def finished(path: Path) -> set[str]:
        """File names of the rows that are there."""
        return {row[0] for row in list(csv.reader(io.StringIO(_whole_lines(path), newline="")))[1:]}

    def write(self, result: Mapping[str, Any]) -> None:
        """Add a row."""
        self._writer.writerow((result["request_id"], prediction(result)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole_lines(path: Path) -> str:
    """What the file holds. A last line that was cut off is cut away, so that the next one starts clean."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        path.write_bytes(whole)
    return whole.decode()

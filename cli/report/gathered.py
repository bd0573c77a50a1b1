"""What the page shows of all results: rows up to a bound, counts and times of all."""

import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from lowtide.cli.answers.answers import Result, error_of

ANSWERS_MAX = 10_000
FAILURES_MAX = 2_000
"""Rows of the page. A browser opens so many within two seconds; the output has them all."""
RARE = 20
"""The last quarter of the rows of failures is for types with so few rows: others shall not crowd them out."""
BEST = 5
SAID_CHARS = 300
LABEL_CHARS = 100
VERSIONS_MAX = 10

TIMINGS = ("queued", "decode", "gpu")
"""Those of the contract that are drawn, in milliseconds."""
TIMING_MAX_MS = 31 * 24 * 3600 * 1000
"""Longer keeps Pub/Sub no message: what is more is no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One source. `best`: labels with their scores from 0 to 1, best first, where the outputs are such. `said`: other
    outputs as JSON, or why there are none.
    """

    name: str
    failure: str = ""
    best: tuple[tuple[str, float], ...] = ()
    said: str = ""


class Gathered:
    """Results of one run, and those that its output held already. 32 bytes a result, beside the rows."""

    def __init__(
        self,
        *,
        answers_max: int = ANSWERS_MAX,
        failures_max: int = FAILURES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """So many rows of each are kept."""
        self._answers_max = answers_max
        self._failures_max = failures_max
        self._clock = clock
        self._began_s = clock()
        self.answers: list[Row] = []
        self.failures: list[Row] = []
        self.failed: Counter[str] = Counter()
        """Type → how many."""
        self.answered = 0
        self.earlier = 0
        self.versions: dict[str, None] = {}
        """Of the model, in the order in which they came."""
        self.arrived_s = array("d")
        """When this run's results came, in seconds from `begin`."""
        self.timings_ms = {name: array("d") for name in TIMINGS}

    def begin(self) -> None:
        """The first request is about to be published."""
        self._began_s = self._clock()

    def add(self, result: Result) -> None:
        """One that has just come."""
        self.arrived_s.append(self._clock() - self._began_s)
        self._add(result)

    def add_earlier(self, results: Iterable[Result], *, again: Container[str] = ()) -> None:
        """What the output held already, without what is run `again`. When it came is not known."""
        for result in results:
            if result["request_id"] not in again:
                self.earlier += 1
                self._add(result)

    def sort(self, names: Iterable[str]) -> None:
        """Rows in the order of `names`, and those of none of them at the end."""
        place = {name: number for number, name in enumerate(names)}
        for rows in (self.failures, self.answers):
            rows.sort(key=lambda row: place.get(row.name, len(place)))

    @property
    def rows(self) -> list[Row]:
        """Failures first."""
        return [*self.failures, *self.answers]

    @property
    def by_failure(self) -> dict[str, list[Row]]:
        """Rows by the type of what failed, the most frequent first."""
        rows: dict[str, list[Row]] = {failure: [] for failure, _ in self.failed.most_common()}
        for row in self.failures:
            rows[row.failure].append(row)
        return rows

    def _add(self, result: Result) -> None:
        if failure := error_of(result)[0]:
            self.failed[failure] += 1
            if len(self.failures) < self._failures_max * (4 if self.failed[failure] <= RARE else 3) // 4:
                self.failures.append(row_of(result))
        else:
            self.answered += 1
            self._add_timings(result.get("timings_ms"))
            if len(self.answers) < self._answers_max:
                self.answers.append(row_of(result))
        version = _cut(str(result.get("model_version") or ""), LABEL_CHARS)
        if version and len(self.versions) < VERSIONS_MAX:
            self.versions[version] = None

    def _add_timings(self, timings: Any) -> None:
        """Of answers: a request that failed was not on the device, which is no short time there."""
        for name, values in self.timings_ms.items():
            value = timings.get(name) if isinstance(timings, Mapping) else None
            if _is_number(value) and 0 <= value <= TIMING_MAX_MS:
                values.append(value)


def row_of(result: Result) -> Row:
    """What the page says of a result, whatever it holds."""
    name = str(result["request_id"])
    failure, message = error_of(result)
    if failure:
        return Row(name=name, failure=failure, said=_cut(message.removeprefix(f"{name}: "), SAID_CHARS))
    outputs = result.get("outputs") or []
    if not isinstance(outputs, list):  # in a file that others have written, too
        outputs = [outputs]
    if len(outputs) == 1 and isinstance(outputs[0], str):  # also what a CSV file keeps of labels and scores
        return Row(name=name, said=_cut(outputs[0], SAID_CHARS))
    best = tuple((_cut(label, LABEL_CHARS), score) for label, score in map(_scored, outputs[:BEST]) if label)
    if best and len(best) == len(outputs[:BEST]):
        return Row(name=name, best=best)
    return Row(name=name, said=_cut(json.dumps(outputs, ensure_ascii=False), SAID_CHARS))


def _scored(output: Any) -> tuple[str, float]:
    """Label and score; no label if it is something else."""
    if not isinstance(output, Mapping):
        return "", 0.0
    label, score = output.get("label"), output.get("score")
    return (str(label), float(score)) if label is not None and _is_number(score) and 0 <= score <= 1 else ("", 0.0)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}…"

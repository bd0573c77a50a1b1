import itertools
import math
from typing import Any

import pytest

from lowtide.cli.report.gathered import Gathered, Row, row_of

TIMINGS = {"queued": 12.0, "fetch": 1.0, "decode": 4.0, "gpu": 2.0, "total": 20.0}


def answer(name: str, *outputs: Any, **more: Any) -> dict[str, Any]:
    return {"request_id": name, "status": "ok", "outputs": list(outputs), "error": None, **more}


def failure(name: str, type: str = "truncated_image", message: str = "cut off", **more: Any) -> dict[str, Any]:
    return {
        "request_id": name,
        "status": "failed",
        "outputs": [],
        "error": {"type": type, "message": message},
        **more,
    }


def scored(label: Any, score: Any) -> dict[str, Any]:
    return {"index": 1, "label": label, "score": score}


def test_scored_labels_are_the_best_five_in_their_order() -> None:
    outputs = [scored(f"label {n}", 0.5 - n / 20) for n in range(7)]

    row = row_of(answer("cat.jpg", *outputs))

    assert row == Row(name="cat.jpg", best=tuple((f"label {n}", 0.5 - n / 20) for n in range(5)))


@pytest.mark.parametrize(
    "outputs",
    [
        [{"brightness": 0.3, "label": "dark"}],
        [scored("cat", 0.9), {"label": "dog"}],
        [scored("cat", 17.2)],
        [scored("cat", True)],
        [scored("cat", float("nan"))],
        [[1, 2, 3]],
        [3],
    ],
)
def test_other_outputs_are_shown_as_they_are(outputs: list[Any]) -> None:
    row = row_of(answer("cat.jpg", *outputs))

    assert not row.best
    assert row.said.startswith("[")


def test_what_is_long_is_cut() -> None:
    assert len(row_of(answer("a", {"text": "x" * 10_000})).said) < 400
    assert len(row_of(answer("a", scored("y" * 10_000, 0.5))).best[0][0]) < 200
    assert len(row_of(failure("a", message="z" * 10_000)).said) < 400


def test_a_failure_says_its_reason_without_its_name() -> None:
    assert row_of(failure("a.jpg", message="a.jpg: cut off")) == Row(
        name="a.jpg", failure="truncated_image", said="cut off"
    )
    assert row_of({"request_id": "b", "status": "expired", "error": None}).failure == "expired"


def test_everything_is_counted_and_rows_have_a_bound() -> None:
    kept = Gathered(answers_max=3, failures_max=2)
    for number in range(10):
        kept.add(answer(f"{number}", timings_ms=TIMINGS))
        kept.add(failure(f"bad {number}", type="no_answer" if number % 5 else "no_source"))

    assert (kept.answered, kept.failed) == (10, {"no_answer": 8, "no_source": 2})
    assert [row.name for row in kept.rows] == ["bad 0", "bad 1", "0", "1", "2"]
    assert list(kept.by_failure) == ["no_answer", "no_source"]
    assert list(kept.timings_ms["decode"]) == [4.0] * 10
    assert len(kept.arrived_s) == 20


def test_what_fails_rarely_is_shown_beside_what_fails_often() -> None:
    kept = Gathered(failures_max=100)
    for number in range(300):
        kept.add(failure(f"{number}", type="no_answer"))
    kept.add(failure("rare", type="damaged_image"))
    for number in range(300):
        kept.add(failure(f"{number}", type=f"of its own {number}"))

    assert kept.by_failure["damaged_image"] == [Row(name="rare", failure="damaged_image", said="cut off")]
    assert len(kept.failures) == 100


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e300, 10**400, True, "1"])
def test_what_is_no_time_is_not_drawn(value: Any) -> None:
    kept = Gathered()
    kept.add(answer("a", timings_ms={"queued": value}))

    assert not kept.timings_ms["queued"]


@pytest.mark.parametrize("outputs", [{"text": "a"}, 5, True, None, "cat", {}])
@pytest.mark.parametrize("error", [None, "boom", ["boom"], {}, {"type": None}, {"message": None}])
@pytest.mark.parametrize("status", ["ok", "failed"])
def test_a_file_of_results_that_others_have_written_has_rows(outputs: Any, error: Any, status: str) -> None:
    kept = Gathered()
    kept.add_earlier([{"request_id": "a", "status": status, "outputs": outputs, "error": error}])

    assert (kept.answered, kept.failed.total()) == ((1, 0) if status == "ok" else (0, 1))


def test_what_failed_was_not_on_the_device_for_no_time() -> None:
    kept = Gathered()
    kept.add(failure("a", timings_ms={**TIMINGS, "gpu": 0.0}))
    kept.add(answer("b", timings_ms={"queued": "soon", "decode": None}))
    kept.add(answer("c", timings_ms=None))

    assert not any(kept.timings_ms.values())


def test_times_count_from_the_beginning() -> None:
    clock = itertools.count(100.0, 2.5)
    kept = Gathered(clock=lambda: next(clock))
    kept.begin()
    kept.add(answer("a"))
    kept.add(failure("b"))

    assert list(kept.arrived_s) == [2.5, 5.0]


def test_earlier_results_count_without_a_time_and_without_what_is_run_again() -> None:
    kept = Gathered()
    kept.add_earlier([answer("a", model_version="v1"), failure("b"), failure("c")], again={"b"})
    kept.add(answer("b", model_version="v2"))

    assert (kept.answered, kept.failed.total(), kept.earlier, len(kept.arrived_s)) == (2, 1, 2, 1)
    assert list(kept.versions) == ["v1", "v2"]


def test_rows_are_sorted_as_their_sources_are() -> None:
    kept = Gathered()
    for name in ("c", "x", "a", "b"):
        kept.add(answer(name))
    kept.sort(["a", "b", "c"])

    assert [row.name for row in kept.rows] == ["a", "b", "c", "x"]

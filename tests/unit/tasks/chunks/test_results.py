import json
from typing import Any

import pytest

from lowtide.tasks.chunks.results import ChunkResult, read_result
from lowtide.tasks.wire.outcome import Outcome, Status, Timings


def stored(**meta: Any) -> bytes:
    return json.dumps({"task_id": "t", **meta}).encode()


def test_fields_that_a_newer_worker_adds_are_ignored() -> None:
    outcome = {"status": "ok", "outputs": [1], "device": "H100", "timings_ms": {"gpu": 2, "copy": 1}}

    assert read_result("t", stored(status="SUCCESS", result=[outcome], runtime=1)) == ChunkResult(
        task_id="t", outcomes=(Outcome(status=Status.OK, outputs=[1], timings_ms=Timings(gpu=2)),)
    )


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[1]",
        b'"text"',
        b"[" * 100_000,
        stored(),
        stored(status=["SUCCESS"]),
        stored(status="SUCCESS"),
        stored(status="SUCCESS", result={"status": "ok"}),
        stored(status="SUCCESS", result=[{}]),
        stored(status="SUCCESS", result=[{"status": "paused"}]),
    ],
)
def test_what_is_no_result_is_said_to_be_unreadable_and_raises_nothing(value: bytes) -> None:
    result = read_result("t", value)

    assert result is not None
    assert (result.task_id, result.outcomes, result.error) == ("t", (), None)
    assert result.unreadable


def test_why_a_result_is_unreadable_is_said_without_what_it_holds() -> None:
    result = read_result("t", stored(status="SUCCESS", result=[{"status": "ok", "outputs": "secret"}]))

    assert result is not None
    assert result.unreadable == "0.outputs: Input should be a valid list"


@pytest.mark.parametrize("status", ["PENDING", "STARTED", "RETRY", "HALFWAY"])
def test_a_result_that_is_not_the_last_word_is_waited_for(status: str) -> None:
    assert read_result("t", stored(status=status, result=None)) is None

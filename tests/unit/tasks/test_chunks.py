import json
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from lowtide.tasks.chunks import Chunk, ChunkResult, ChunkSender, read_result
from lowtide.tasks.queues import CHUNK_COUNT_HEADER, SENT_AT_HEADER, WIRE_VERSION_HEADER, wire_version
from lowtide.tasks.wire import Outcome, Status, Timings


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


@pytest.mark.parametrize(("fields", "version"), [({}, 1), ({"generation": "17"}, 2)])
def test_a_chunk_says_how_many_requests_it_holds_since_when_and_what_a_worker_must_know(
    fields: dict[str, str], version: int
) -> None:
    app = Celery(broker="memory://", set_as_current=False)
    plain = {"model": "m", "uri": "gs://b/o"}
    requests = (plain, {**plain, **fields}, plain)
    ChunkSender(app).send([Chunk(task_id="o.1", queue="q", requests=requests, sent_at=1_780_000_000.1234)])
    with Connection("memory://") as connection:
        message = connection.SimpleQueue("q").get_nowait()
    app.close()

    assert message.headers[CHUNK_COUNT_HEADER] == 3
    assert message.headers[SENT_AT_HEADER] == 1_780_000_000.123
    assert wire_version(message.headers) == message.headers[WIRE_VERSION_HEADER] == version


@pytest.mark.parametrize("headers", [{}, {WIRE_VERSION_HEADER: None}, {WIRE_VERSION_HEADER: "new"}])
def test_who_names_no_version_speaks_the_first(headers: dict[str, Any]) -> None:
    assert wire_version(headers) == 1

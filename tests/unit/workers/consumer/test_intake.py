import json
from collections.abc import Callable
from decimal import InvalidOperation
from types import SimpleNamespace
from typing import Any

import pytest

from lowtide.config import Settings
from lowtide.tasks.held.ledger import HeldTask
from lowtide.tasks.held.moves import Taken
from lowtide.workers.consumer.intake import Intake
from lowtide.workers.consumer.session import WorkerSession


def of(raw: bytes, *, tag: str = "a", task: str = "", again: bool = False) -> Taken:
    return Taken(queue="lowtide.m", incarnation="1", tag=tag, requests=1, task=task, again=again, raw=raw)


def taken(tag: str, *, again: bool = False) -> Taken:
    message = {"headers": {"id": tag}, "properties": {"delivery_tag": tag, "delivery_info": {}}}
    return of(json.dumps(message).encode(), tag=tag, task=tag, again=again)


def session_of(
    closed: Callable[[], bool] = lambda: False, limit: Callable[[], int | None] = lambda: None
) -> WorkerSession:
    heartbeat: Any = SimpleNamespace(incarnation="1")
    return WorkerSession(
        settings=Settings(),
        heartbeat=heartbeat,
        predecessor=None,
        seconds_per_request=lambda _: 0.0,
        closed=closed,
        limit=limit,
    )


def tags(settled: tuple[HeldTask, ...]) -> tuple[str, ...]:
    return tuple(held.tag for held in settled)


@pytest.fixture
def session() -> WorkerSession:
    return session_of()


def intake(session: WorkerSession, deliver: Any, *, no_ack: frozenset[str] = frozenset()) -> Intake:
    connection = SimpleNamespace(_deliver=deliver)
    return Intake(SimpleNamespace(session=session, connection=connection, no_ack_queues=no_ack))


def test_what_could_not_be_delivered_goes_back(session: WorkerSession) -> None:
    def deliver(message: Any, queue: str) -> None:
        if message["headers"]["id"] == "b":
            raise ConnectionError

    with pytest.raises(ConnectionError):
        intake(session, deliver)._deliver_all([taken("a"), taken("b"), taken("c")])
    assert tags(session.ledger.settled().back) == ("b", "c")
    assert "1/a" in session.ledger


def test_all_are_held_before_the_first_is_delivered(session: WorkerSession) -> None:
    seen: list[int] = []
    intake(session, lambda *_: seen.append(len(session.ledger)))._deliver_all([taken("a"), taken("b")])
    assert seen == [2, 2]


def test_what_nobody_will_acknowledge_is_done_when_delivered(session: WorkerSession) -> None:
    intake(session, lambda *_: None, no_ack=frozenset(["lowtide.m"]))._deliver_all([taken("a")])
    assert tags(session.ledger.settled().done) == ("a",)


def test_a_take_is_never_repeated_by_the_client(session: WorkerSession) -> None:
    assert session.pool.make_connection().retry.get_retries() == 0


def test_while_a_task_runs_alone_nothing_is_taken() -> None:
    closed = [True]
    session = session_of(lambda: closed[0])
    assert session.budget(0).empty
    closed[0] = False
    assert not session.budget(0).empty


def test_no_more_tasks_are_taken_than_the_limit_says() -> None:
    limit: list[int | None] = [0]
    session = session_of(limit=lambda: limit[0])
    assert session.budget(64).empty
    limit[0] = 1
    assert session.budget(64).messages == session.budget(0).messages == 1
    intake(session, lambda *_: None)._deliver_all([taken("a")])
    assert session.budget(64).empty
    limit[0] = None
    assert session.budget(64).messages == 63


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Incorrect padding"),
        TypeError(),
        AttributeError(),
        KeyError("x"),
        InvalidOperation(),
        RecursionError(),
    ],
)
def test_what_celery_chokes_on_is_dropped_and_the_others_are_delivered(
    session: WorkerSession, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    delivered, acknowledged = [], []

    def deliver(message: Any, queue: str) -> None:
        if message["headers"]["id"] == "b":
            raise error
        delivered.append(message["headers"]["id"])

    feeds = intake(session, deliver)
    feeds._channel.qos = SimpleNamespace(ack=acknowledged.append)
    feeds._deliver_all([taken("a"), taken("b"), taken("c")])
    assert (delivered, acknowledged) == (["a", "c"], ["1/b"])
    assert (
        f"message b of lowtide.m is no task, {len(taken('b').raw)} bytes dropped: {type(error).__name__}" in caplog.text
    )
    assert "padding" not in caplog.text


@pytest.mark.parametrize(
    "raw",
    [
        b'{"headers": {"id": 5}, "properties": {}}',
        b'{"headers": {"id": null}, "properties": {}}',
        b'{"headers": {"id": "\\ud800"}, "properties": {}}',
        b'{"headers": {"x": {"__type__": "decimal", "__value__": "secret"}}, "properties": {}}',
        b'{"headers": {}, "properties": {"delivery_info": ["secret"]}}',
        b'{"headers": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, "properties": {}}',
        b"secret \xff",
        b"[]",
    ],
)
def test_what_is_no_message_is_dropped_and_not_quoted(
    session: WorkerSession, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    intake(session, lambda *_: pytest.fail("delivered"))._deliver_all([of(raw)])
    assert tags(session.ledger.settled().done) == ("a",)
    assert "is no task" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("tag", [None, 5, "its-own"])
def test_a_message_is_acknowledged_as_what_it_is_filed_under(session: WorkerSession, tag: Any) -> None:
    delivered = []
    raw = json.dumps({"headers": {"id": "t"}, "properties": {"delivery_tag": tag}}).encode()
    intake(session, lambda message, queue: delivered.append(message["properties"]["delivery_tag"]))._deliver_all(
        [of(raw, tag="filed", task="t")]
    )
    assert delivered == ["1/filed"]


def test_a_task_whose_id_is_not_the_one_that_redis_knows_is_dropped(session: WorkerSession) -> None:
    raw = json.dumps({"headers": {"id": "a\nb"}, "properties": {}}).encode()
    intake(session, lambda *_: pytest.fail("delivered"))._deliver_all([of(raw)])
    assert tags(session.ledger.settled().done) == ("a",)


def test_what_was_held_before_is_delivered_as_such(session: WorkerSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "finished", lambda task: task == "b")
    delivered: list[bool] = []
    feeds = intake(session, lambda message, _: delivered.append(message["properties"]["delivery_info"]["redelivered"]))
    feeds._deliver_all([taken("a", again=True), taken("b", again=True)])
    assert delivered == [True]
    assert tags(session.ledger.settled().done) == ("b",), "a result is there"


def test_what_was_given_up_is_no_longer_ours(session: WorkerSession) -> None:
    feeds = intake(session, lambda *_: None)
    feeds._deliver_all([taken("a")])
    assert session.is_ours("1/a")
    session._heartbeat.incarnation = "2"
    assert not session.is_ours("1/a")
    session.ledger.settle("1/a", done=True)
    session.settle()  # no Redis is there that it could ask
    assert session.ledger.everything() == []

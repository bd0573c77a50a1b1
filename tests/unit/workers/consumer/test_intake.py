import json
from collections.abc import Callable, Sequence
from decimal import InvalidOperation
from types import SimpleNamespace
from typing import Any

import pytest

from lowtide.config import Settings
from lowtide.tasks.held.ledger import HeldTask
from lowtide.tasks.held.moves import Taken, Took
from lowtide.workers.consumer.intake import Intake
from lowtide.workers.consumer.session import WorkerSession
from tests.clock import Clock


def of(raw: bytes, *, tag: str = "a", task: str = "", again: bool = False) -> Taken:
    return Taken(queue="lowtide.m", incarnation="1", tag=tag, requests=1, task=task, again=again, raw=raw)


def taken(tag: str, *, again: bool = False) -> Taken:
    message = {"headers": {"id": tag}, "properties": {"delivery_tag": tag, "delivery_info": {}}}
    return of(json.dumps(message).encode(), tag=tag, task=tag, again=again)


class Session(WorkerSession):
    """Without Redis: a take gives what is `there`, and whether a task is finished is known."""

    def __init__(self, **options: Any) -> None:
        self.heartbeat: Any = SimpleNamespace(incarnation="1")
        super().__init__(
            settings=Settings(),
            heartbeat=self.heartbeat,
            predecessor=None,
            seconds_per_request=lambda _: 0.0,
            **options,
        )
        self.there: list[Taken] = []
        self.done = frozenset[str]()

    def take(self, queues: Sequence[str], *, prefetch: int) -> Took | None:
        messages, self.there = self.there, []
        return Took(messages=messages) if messages else None

    def finished(self, task: str) -> bool:
        return task in self.done


def tags(released: tuple[HeldTask, ...]) -> tuple[str, ...]:
    return tuple(held.tag for held in released)


@pytest.fixture
def session() -> Session:
    return Session()


def take(
    session: Session,
    *messages: Taken,
    deliver: Callable[[Any, str], object] = lambda message, queue: None,
    ack: Callable[[str], None] | None = None,
    no_ack: frozenset[str] = frozenset(),
) -> None:
    """One turn, in which these are there."""
    session.there = list(messages)
    qos = SimpleNamespace(can_consume=lambda: bool(session.there), prefetch_count=0, ack=ack)
    channel = SimpleNamespace(session=session, connection=SimpleNamespace(_deliver=deliver), no_ack_queues=no_ack)
    channel.qos, channel.active_queues, channel.health_check_interval = qos, ["lowtide.m"], 10
    Intake(channel).serve()


def test_what_could_not_be_delivered_goes_back(session: Session) -> None:
    def deliver(message: Any, queue: str) -> None:
        if message["headers"]["id"] == "b":
            raise ConnectionError

    with pytest.raises(ConnectionError):
        take(session, taken("a"), taken("b"), taken("c"), deliver=deliver)
    assert tags(session.ledger.released().back) == ("b", "c")
    assert "1/a" in session.ledger


def test_all_are_held_before_the_first_is_delivered(session: Session) -> None:
    seen: list[int] = []
    take(session, taken("a"), taken("b"), deliver=lambda *_: seen.append(len(session.ledger)))
    assert seen == [2, 2]


def test_what_nobody_will_acknowledge_is_done_when_delivered(session: Session) -> None:
    take(session, taken("a"), no_ack=frozenset(["lowtide.m"]))
    assert tags(session.ledger.released().done) == ("a",)


def test_a_take_is_never_repeated_by_the_client(session: Session) -> None:
    assert session.pool.make_connection().retry.get_retries() == 0


def test_while_a_task_runs_alone_nothing_is_taken() -> None:
    closed = [True]
    session = Session(closed=lambda: closed[0])
    assert session.budget(0).empty
    closed[0] = False
    assert not session.budget(0).empty


def test_while_a_task_runs_alone_the_loop_is_watched_as_ever() -> None:
    clock = Clock()
    session = Session(closed=lambda: True, clock=clock)
    session.liveness.beat()
    clock.pass_(1000)
    assert session.liveness.stuck()


def test_no_more_tasks_are_taken_than_the_limit_says() -> None:
    limit: list[int | None] = [0]
    session = Session(limit=lambda: limit[0])
    assert session.budget(64).empty
    limit[0] = 1
    assert session.budget(64).messages == session.budget(0).messages == 1
    take(session, taken("a"))
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
    session: Session, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    delivered, acknowledged = [], []

    def deliver(message: Any, queue: str) -> None:
        if message["headers"]["id"] == "b":
            raise error
        delivered.append(message["headers"]["id"])

    take(session, taken("a"), taken("b"), taken("c"), deliver=deliver, ack=acknowledged.append)
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
    session: Session, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    take(session, of(raw), deliver=lambda *_: pytest.fail("delivered"))
    assert tags(session.ledger.released().done) == ("a",)
    assert "is no task" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("tag", [None, 5, "its-own"])
def test_a_message_is_acknowledged_as_what_it_is_filed_under(session: Session, tag: Any) -> None:
    delivered = []
    raw = json.dumps({"headers": {"id": "t"}, "properties": {"delivery_tag": tag}}).encode()
    filed = of(raw, tag="filed", task="t")
    take(session, filed, deliver=lambda message, _: delivered.append(message["properties"]["delivery_tag"]))
    assert delivered == ["1/filed"]


def test_a_task_whose_id_is_not_the_one_that_redis_knows_is_dropped(session: Session) -> None:
    raw = json.dumps({"headers": {"id": "a\nb"}, "properties": {}}).encode()
    take(session, of(raw), deliver=lambda *_: pytest.fail("delivered"))
    assert tags(session.ledger.released().done) == ("a",)


def test_what_was_held_before_is_delivered_as_such(session: Session) -> None:
    session.done = frozenset("b")
    delivered: list[bool] = []
    take(
        session,
        *(taken("a", again=True), taken("b", again=True)),
        deliver=lambda message, _: delivered.append(message["properties"]["delivery_info"]["redelivered"]),
    )
    assert delivered == [True]
    assert tags(session.ledger.released().done) == ("b",), "a result is there"


def test_what_was_given_up_is_no_longer_ours(session: Session) -> None:
    take(session, taken("a"))
    assert session.is_ours("1/a")
    session.heartbeat.incarnation = "2"
    assert not session.is_ours("1/a")
    session.ledger.release("1/a", done=True)
    session.flush()  # no Redis is there that it could ask
    assert session.ledger.everything() == []

from types import SimpleNamespace
from typing import Any

import pytest
from redis import ResponseError

from lowtide.config import Settings
from lowtide.tasks.held.moves import Taken, Took
from lowtide.tasks.queues import worker_queues
from lowtide.workers.consumer import wake
from lowtide.workers.consumer.intake import Intake
from lowtide.workers.consumer.session import WorkerSession
from lowtide.workers.consumer.wake import Wake


class Connection:
    """Of redis-py, as far as a wait needs it."""

    def __init__(self) -> None:
        self._sock: object | None = object()
        self.sent: list[tuple[Any, ...]] = []
        self.answer: Any = None

    def send_command(self, *command: Any) -> None:
        self.sent.append(command)

    def read_response(self, *, disable_decoding: bool) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def disconnect(self) -> None:
        self._sock = None


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def channel(connection: Connection) -> SimpleNamespace:
    heartbeat: Any = SimpleNamespace(incarnation="1")
    return SimpleNamespace(
        session=WorkerSession(
            settings=Settings(prefix="fleet:"), heartbeat=heartbeat, predecessor=None, seconds_per_request=lambda _: 0.0
        ),
        active_queues=[*worker_queues(["m", "n"]), "other"],
        qos=SimpleNamespace(can_consume=lambda: True, prefetch_count=0),
        handlers={},
        _connparams=lambda asynchronous: {"connection_class": lambda: connection},
        connection=SimpleNamespace(cycle=SimpleNamespace(_register=lambda *_: None)),
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(wake, "monotonic", lambda: now[0])
    return now


def test_one_command_waits_for_all_models(channel: SimpleNamespace, connection: Connection) -> None:
    Wake(channel).arm(channel.active_queues)
    assert connection.sent == [("BLPOP", "fleet:lt2:wake:m", "fleet:lt2:wake:n", 1.0)]


def test_without_a_queue_of_ours_nobody_wakes_it(channel: SimpleNamespace, connection: Connection) -> None:
    Wake(channel).arm(["other"])
    assert connection.sent == [("BLPOP", "fleet:lt2:wake:", 1.0)]


@pytest.mark.parametrize(("answer", "token"), [([b"fleet:lt2:wake:m", b""], "fleet:lt2:wake:m"), (None, None)])
def test_an_answer_is_a_token_or_none(
    channel: SimpleNamespace, connection: Connection, answer: Any, token: str | None
) -> None:
    waits = Wake(channel)
    waits.arm(channel.active_queues)
    connection.answer = answer
    waits.read()
    assert (waits.armed, waits.token) == (False, token)


def test_who_is_refused_asks_again_a_second_later(
    channel: SimpleNamespace, connection: Connection, clock: list[float]
) -> None:
    waits = Wake(channel)
    waits.arm(channel.active_queues)
    connection.answer = ResponseError("READONLY")
    waits.read()
    waits.arm(channel.active_queues)
    assert not waits.armed
    clock[0] += 1.0
    waits.arm(channel.active_queues)
    assert waits.armed


def test_a_wait_that_lasts_too_long_is_given_up(
    channel: SimpleNamespace, connection: Connection, clock: list[float]
) -> None:
    waits = Wake(channel)
    waits.arm(channel.active_queues)
    clock[0] += 11.0
    waits.drop_if_overdue(grace_s=10)
    assert waits.armed
    clock[0] += 0.1
    waits.drop_if_overdue(grace_s=10)
    assert not waits.armed
    assert connection._sock is None


def test_who_serves_other_models_waits_for_others(channel: SimpleNamespace, connection: Connection) -> None:
    waits = Wake(channel)
    waits.arm(channel.active_queues)
    waits.drop_if_other(worker_queues(["m", "n"]))
    assert waits.armed, "the models are the same"
    waits.drop_if_other(worker_queues(["m"]))
    assert not waits.armed
    assert connection._sock is None


def test_who_is_deaf_to_a_queue_of_a_model_waits_for_no_token_of_it(
    channel: SimpleNamespace, connection: Connection
) -> None:
    Wake(channel).arm([*worker_queues(["m"]), "lowtide.n", "lowtide.n.topic"])
    assert connection.sent == [("BLPOP", "fleet:lt2:wake:m", 1.0)]


def test_who_is_woken_without_room_wakes_another_and_looks_when_it_has_room(
    channel: SimpleNamespace, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on: list[str] = []
    takes: list[list[str]] = []
    monkeypatch.setattr(channel.session.moves, "pass_on", passed_on.append)
    monkeypatch.setattr(channel.session, "take", lambda queues, prefetch: takes.append(queues) or Took())
    intake = Intake(channel)
    intake.serve()
    connection.answer = [b"fleet:lt2:wake:m", b""]
    intake._wake.read()
    channel.qos.can_consume = lambda: False
    intake.serve()
    intake.serve()
    assert passed_on == ["fleet:lt2:wake:m"], "once"
    channel.qos.can_consume = lambda: True
    intake.serve()
    assert len(takes) == 2
    assert intake._wake.armed


def test_who_is_woken_and_takes_keeps_the_token(
    channel: SimpleNamespace, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel.session.moves, "pass_on", lambda key: pytest.fail("passed on"))
    monkeypatch.setattr(channel.session, "take", lambda queues, prefetch: Took())
    monkeypatch.setattr(channel.session.moves, "anything", lambda queues: False)
    intake = Intake(channel)
    intake.serve()
    connection.answer = [b"fleet:lt2:wake:m", b""]
    intake._wake.read()
    intake.serve()
    channel.qos.can_consume = lambda: False
    connection.answer = None
    intake._wake.read()
    intake.serve()


def test_who_waited_in_vain_takes_only_where_there_is_something(
    channel: SimpleNamespace, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes, anything = list[Any](), [False, True]
    monkeypatch.setattr(channel.session, "take", lambda queues, prefetch: takes.append(queues) or Took())
    monkeypatch.setattr(channel.session.moves, "anything", lambda queues: anything.pop(0))
    intake = Intake(channel)
    intake.serve()
    for takes_by_then in (1, 2):
        intake._wake.read()
        intake.serve()
        assert (len(takes), intake._wake.armed) == (takes_by_then, True)
    connection.answer = [b"fleet:lt2:wake:m", b""]
    intake._wake.read()
    intake.serve()
    assert len(takes) == 3, "a token needs no look"


@pytest.mark.parametrize("more", [True, False])
def test_who_took_the_last_waits_at_once_and_who_did_not_takes_again(
    channel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    item = Taken(queue="lowtide.m", incarnation="1", tag="t", requests=1, task="", again=False, raw=b"no message")
    takes = [Took(messages=[item], more=more), Took()]
    monkeypatch.setattr(channel.session, "take", lambda queues, prefetch: takes.pop(0))
    intake = Intake(channel)
    intake.serve()
    assert (len(takes), intake._wake.armed) == (0 if more else 1, True)


def test_who_took_the_last_and_has_no_room_is_not_woken(
    channel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Taken(queue="lowtide.m", incarnation="1", tag="t", requests=1, task="", again=False, raw=b"no message")
    rooms = [True, False, False]
    channel.qos.can_consume = lambda: rooms.pop(0)
    monkeypatch.setattr(channel.session, "take", lambda queues, prefetch: Took(messages=[item]))
    intake = Intake(channel)
    intake.serve()
    assert not intake._wake.armed


def test_who_serves_nothing_any_more_wakes_another(
    channel: SimpleNamespace, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on: list[str] = []
    monkeypatch.setattr(channel.session.moves, "pass_on", passed_on.append)
    monkeypatch.setattr(channel.session, "take", lambda queues, prefetch: Took())
    intake = Intake(channel)
    intake.serve()
    connection.answer = [b"fleet:lt2:wake:m", b""]
    intake._wake.read()
    channel.active_queues = []
    intake.serve()
    assert passed_on == ["fleet:lt2:wake:m"]

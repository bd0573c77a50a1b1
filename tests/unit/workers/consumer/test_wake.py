from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from redis import ResponseError

from lowtide.tasks.held.ledger import Ledger
from lowtide.tasks.held.moves import Taken, Took
from lowtide.tasks.queues import worker_queues
from lowtide.tasks.redis.keys import Keys
from lowtide.workers.consumer.intake import Intake
from lowtide.workers.consumer.wake import LOOK_S, Wake
from tests.clock import Clock

TOKEN = [b"fleet:lt2:wake:m", b""]
NO_MESSAGE = Taken(queue="lowtide.m", incarnation="1", tag="t", requests=1, task="", again=False, raw=b"no message")


class Connection:
    """Of redis-py, as far as a wait needs it."""

    def __init__(self) -> None:
        self.is_connected = True
        self.sent: list[tuple[Any, ...]] = []
        self.waits = False
        self.answer: Any = None

    def send_command(self, *command: Any) -> None:
        self.sent.append(command)
        self.waits = True

    def read_response(self, *, disable_decoding: bool) -> Any:
        self.waits = False
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def disconnect(self) -> None:
        self.is_connected = self.waits = False


class Session:
    """Of a worker, as far as an intake needs it: what takes give, one after the other, and then nothing."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.look_s = LOOK_S
        self.keys = Keys("fleet:")
        self.moves = self
        self.ledger = Ledger()
        self.gives: list[Took] = []
        self.takes = 0
        self.there_is: list[bool] = []
        self.passed_on: list[str] = []

    def take(self, queues: Sequence[str], *, prefetch: int) -> Took:
        self.takes += 1
        return self.gives.pop(0) if self.gives else Took()

    def anything(self, queues: Sequence[str]) -> bool:
        return self.there_is.pop(0)

    def pass_on(self, key: str) -> None:
        self.passed_on.append(key)


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(clock: Clock) -> Session:
    return Session(clock)


@pytest.fixture
def channel(connection: Connection, session: Session) -> SimpleNamespace:
    return SimpleNamespace(
        session=session,
        active_queues=[*worker_queues(["m", "n"]), "other"],
        qos=SimpleNamespace(can_consume=lambda: True, prefetch_count=0),
        handlers={},
        health_check_interval=10,
        async_pool=SimpleNamespace(get_connection=lambda: connection),
        connection=SimpleNamespace(cycle=SimpleNamespace(_register=lambda *_: None)),
    )


def test_one_command_waits_for_all_models(channel: SimpleNamespace, connection: Connection) -> None:
    Wake(channel).arm(channel.active_queues)
    assert connection.sent == [("BLPOP", "fleet:lt2:wake:m", "fleet:lt2:wake:n", 1.0)]


def test_without_a_queue_of_ours_nobody_wakes_it(channel: SimpleNamespace, connection: Connection) -> None:
    Wake(channel).arm(["other"])
    assert connection.sent == [("BLPOP", "fleet:lt2:wake:", 1.0)]


@pytest.mark.parametrize(("answer", "token"), [(TOKEN, "fleet:lt2:wake:m"), (None, None)])
def test_an_answer_is_a_token_or_none(
    channel: SimpleNamespace, connection: Connection, answer: Any, token: str | None
) -> None:
    waits = Wake(channel)
    waits.arm(channel.active_queues)
    connection.answer = answer
    waits.read()
    assert (waits.armed, waits.token) == (False, token)


def test_who_is_refused_asks_again_a_second_later(
    channel: SimpleNamespace, connection: Connection, clock: Clock
) -> None:
    waits = Wake(channel)
    waits.arm(channel.active_queues)
    connection.answer = ResponseError("READONLY")
    waits.read()
    waits.arm(channel.active_queues)
    assert not waits.armed
    clock.pass_(1.0)
    waits.arm(channel.active_queues)
    assert waits.armed


def test_who_serves_other_models_waits_for_others(channel: SimpleNamespace, connection: Connection) -> None:
    waits = Wake(channel)
    waits.arm(channel.active_queues)
    waits.drop_if_other(worker_queues(["m", "n"]))
    assert waits.armed, "the models are the same"
    waits.drop_if_other(worker_queues(["m"]))
    assert not waits.armed
    assert not connection.is_connected


def test_who_is_deaf_to_a_queue_of_a_model_waits_for_no_token_of_it(
    channel: SimpleNamespace, connection: Connection
) -> None:
    Wake(channel).arm([*worker_queues(["m"]), "lowtide.n", "lowtide.n.topic"])
    assert connection.sent == [("BLPOP", "fleet:lt2:wake:m", 1.0)]


def answered(channel: SimpleNamespace, connection: Connection, answer: Any) -> None:
    connection.answer = answer
    channel.handlers["WAKE"]()


def test_who_is_woken_without_room_wakes_another_and_looks_when_it_has_room(
    channel: SimpleNamespace, session: Session, connection: Connection
) -> None:
    intake = Intake(channel)
    intake.serve()
    answered(channel, connection, TOKEN)
    channel.qos.can_consume = lambda: False
    intake.serve()
    intake.serve()
    assert session.passed_on == ["fleet:lt2:wake:m"], "once"
    channel.qos.can_consume = lambda: True
    intake.serve()
    assert (session.takes, connection.waits) == (2, True)


def test_who_is_woken_and_takes_keeps_the_token(
    channel: SimpleNamespace, session: Session, connection: Connection
) -> None:
    intake = Intake(channel)
    intake.serve()
    answered(channel, connection, TOKEN)
    intake.serve()
    channel.qos.can_consume = lambda: False
    answered(channel, connection, None)
    intake.serve()
    assert (session.takes, session.passed_on) == (2, [])


def test_who_waited_in_vain_takes_only_where_there_is_something(
    channel: SimpleNamespace, session: Session, connection: Connection
) -> None:
    session.there_is = [False, True]
    intake = Intake(channel)
    intake.serve()
    for takes_by_then in (1, 2):
        answered(channel, connection, None)
        intake.serve()
        assert (session.takes, connection.waits) == (takes_by_then, True)
    answered(channel, connection, TOKEN)
    intake.serve()
    assert session.takes == 3, "a token needs no look"


@pytest.mark.parametrize("more", [True, False])
def test_who_took_the_last_waits_at_once_and_who_did_not_takes_again(
    channel: SimpleNamespace, session: Session, connection: Connection, more: bool
) -> None:
    session.gives = [Took(messages=[NO_MESSAGE], more=more)]
    Intake(channel).serve()
    assert (session.takes, connection.waits) == (2 if more else 1, True)


def test_who_took_the_last_and_has_no_room_is_not_woken(
    channel: SimpleNamespace, session: Session, connection: Connection
) -> None:
    rooms = [True, False, False]
    channel.qos.can_consume = lambda: rooms.pop(0)
    session.gives = [Took(messages=[NO_MESSAGE])]
    Intake(channel).serve()
    assert not connection.waits


def test_who_serves_nothing_any_more_wakes_another(
    channel: SimpleNamespace, session: Session, connection: Connection
) -> None:
    intake = Intake(channel)
    intake.serve()
    answered(channel, connection, TOKEN)
    channel.active_queues = []
    intake.serve()
    assert session.passed_on == ["fleet:lt2:wake:m"]


def test_a_wait_whose_connection_is_open_at_this_end_only_begins_anew(
    channel: SimpleNamespace, connection: Connection, clock: Clock
) -> None:
    intake = Intake(channel)
    intake.serve()
    clock.pass_(LOOK_S + channel.health_check_interval)
    intake.serve()
    assert len(connection.sent) == 1
    clock.pass_(0.1)
    intake.serve()
    assert len(connection.sent) == 2

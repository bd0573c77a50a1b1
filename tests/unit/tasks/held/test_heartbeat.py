import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import RedisError

from lowtide.tasks.held.heartbeat import BEAT_S, MOMENTS, Heartbeat, until_next
from lowtide.tasks.redis.keys import PROTOCOL, Keys


class Server:
    """Registers whoever may be, until it forgets them. `down`: it answers nothing."""

    def __init__(self) -> None:
        self.registered: set[str] = set()
        self.told: list[str] = []
        self.down = False
        self.said = threading.Semaphore(0)

    def register_script(self, text: str) -> Callable[..., int]:
        return self.beat if "HSET" in text else (lambda **_: 0) if "NX" in text else self.leave

    def beat(self, *, keys: list[str], args: list[Any]) -> int:
        if self.down:
            raise RedisError
        name, status, registers, *_ = args
        self.told.append(status)
        if registers == "1":
            self.registered.add(name)
        self.said.release()
        return int(name in self.registered)

    def leave(self, *, keys: list[str], args: list[Any]) -> int:
        self.registered.remove(args[0])
        return 1

    def get(self, key: str) -> bytes:
        return PROTOCOL.encode()


@pytest.fixture
def server() -> Any:
    return Server()


def test_a_status_that_fails_once_does_not_make_the_process_look_dead(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    statuses = iter([{}, KeyError("odd")])

    def status() -> dict[str, Any]:
        said = next(statuses, {})
        if isinstance(said, Exception):
            raise said
        return said

    heartbeat = Heartbeat(server, Keys(""), kind="worker", status=status, interval_s=0.01)
    heartbeat.start()
    try:
        assert all(server.said.acquire(timeout=5) for _ in range(3))
    finally:
        heartbeat.stop()
    assert caplog.messages == ["a turn of heartbeat failed"]
    assert server.registered == set()


def test_a_worker_that_was_given_up_is_another_one_from_then_on(server: Any) -> None:
    noted: list[str] = []
    heartbeat = Heartbeat(server, Keys(""), kind="worker", on_registered=noted.append)
    heartbeat.beat()
    first = heartbeat.incarnation
    server.registered.clear()
    heartbeat.beat()

    assert noted == [first, heartbeat.incarnation]
    assert server.registered == {heartbeat.incarnation}
    assert first != heartbeat.incarnation


def test_a_bridge_that_was_given_up_registers_again_by_its_name(server: Any) -> None:
    heartbeat = Heartbeat(server, Keys(""), kind="bridge", name="b")
    heartbeat.beat()
    server.registered.clear()
    heartbeat.beat()
    assert (heartbeat.incarnation, server.registered) == ("b", {"b"})


def test_a_registration_without_an_answer_is_left_and_another_id_is_tried(server: Any) -> None:
    heartbeat = Heartbeat(server, Keys(""), kind="worker")
    server.down = True
    heartbeat.beat()
    assert heartbeat.incarnation is None
    server.down = False
    heartbeat.beat()
    assert server.registered == {heartbeat.incarnation}


def test_who_is_refused_elsewhere_registers_at_once(server: Any) -> None:
    heartbeat = Heartbeat(server, Keys(""), kind="worker", interval_s=3600)
    heartbeat.start()
    try:
        assert server.said.acquire(timeout=5)
        first = heartbeat.incarnation
        heartbeat.lapsed("of long ago")
        assert heartbeat.incarnation == first
        heartbeat.lapsed(str(first))
        assert server.said.acquire(timeout=5)
    finally:
        heartbeat.stop()
    assert server.registered == {first}, "of the second it signed off"


def test_a_status_is_told_when_it_is_another_and_when_redis_may_have_lost_it(server: Any) -> None:
    statuses = iter(["idle", "idle", "busy", "busy", "busy"])
    heartbeat = Heartbeat(server, Keys(""), kind="worker", status=lambda: {"is": next(statuses)})
    heartbeat.beat()
    heartbeat.beat()
    heartbeat.beat()
    server.down = True
    heartbeat.beat()
    server.down = False
    heartbeat.beat()
    assert server.told == ['{"is": "idle"}', "", '{"is": "busy"}', '{"is": "busy"}']


def test_who_registers_anew_tells_its_status_again(server: Any) -> None:
    heartbeat = Heartbeat(server, Keys(""), kind="bridge", name="b")
    heartbeat.beat()
    server.registered.clear()
    heartbeat.beat()
    assert server.told == ["{}", "", "{}"]


@given(st.integers(0, MOMENTS - 1), st.floats(1.7e9, 1.8e9), st.lists(st.floats(-0.001, 0.2)))
def test_a_process_beats_once_an_interval_and_always_at_the_same_moment(
    moment: int, start_s: float, late_s: list[float]
) -> None:
    """Also if it is late, or early by a little, as its clock and Redis' don't run alike."""
    moment_s = moment * BEAT_S / MOMENTS
    at_s = start_s + until_next(moment_s, now_s=start_s, interval_s=BEAT_S)
    for late in late_s:
        pause_s = until_next(moment_s, now_s=at_s + late, interval_s=BEAT_S)
        assert late + pause_s == pytest.approx(BEAT_S, abs=1e-5)
        at_s += BEAT_S


@given(moment_s=st.floats(0, BEAT_S), now_s=st.floats(0, 2e9))
def test_whatever_the_clock_says_a_heartbeat_is_neither_late_nor_one_of_many(moment_s: float, now_s: float) -> None:
    pause_s = until_next(moment_s, now_s=now_s, interval_s=BEAT_S)

    assert BEAT_S / MOMENTS / 2 < pause_s <= BEAT_S * (1 + 1 / MOMENTS / 2)

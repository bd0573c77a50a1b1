import pytest

from lowtide.bridge.leases import LEASE_S, LOOK_VALID_S, Leases
from lowtide.bridge.messages import Received


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_(self, seconds: float) -> float:
        self.now_s += seconds
        return self.now_s


def received(message_id: str, ack_id: str = "first", attributes: dict[str, str] | None = None) -> Received:
    return Received(
        subscription="s",
        ack_id=ack_id,
        message_id=message_id,
        data=b"12345",
        attributes=attributes or {},
        published_s=0.0,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    made = Leases(clock)
    made.add([received("1"), received("2")])
    return made


def test_another_delivery_of_a_held_message_brings_its_ack_id_only(leases: Leases) -> None:
    assert leases.add([received("1", "second"), received("3")]) == [received("3")]
    assert leases.by_subscription(["s:1", "s:2"]) == {"s": ["second", "first"]}
    assert (len(leases), leases.held_bytes) == (3, 3 * received("3").size_bytes)


def test_attributes_are_held_as_data_is(leases: Leases) -> None:
    before = leases.held_bytes
    leases.add([received("3", attributes={"k": "v" * 1000})])
    assert leases.held_bytes - before > 1000
    leases.release(["s:3"])
    assert leases.held_bytes == before


def test_what_was_renewed_in_time_each_time_is_surely_ours(leases: Leases, clock: Clock) -> None:
    for _ in range(3):
        clock.pass_(LEASE_S)
        assert leases.renewed(["s:1"], clock.now_s) == 0

    assert leases.surely_ours(["s:1", "s:2", "s:9"]) == ["s:1"]


def test_what_lapsed_once_is_never_surely_ours_again(leases: Leases, clock: Clock) -> None:
    clock.pass_(LEASE_S + 1)
    assert leases.renewed(["s:1"], clock.now_s) == 1
    assert leases.renewed(["s:1"], clock.now_s) == 0

    assert leases.surely_ours(["s:1"]) == []


def test_what_was_delivered_twice_is_not_surely_ours(leases: Leases) -> None:
    leases.add([received("1", "second")])

    assert leases.surely_ours(["s:1", "s:2"]) == ["s:2"]


def test_looks_in_time_keep_a_message_seen(leases: Leases, clock: Clock) -> None:
    for _ in range(3):
        leases.looked(["s:1"], clock.pass_(LOOK_VALID_S))
    leases.add([received("1", "second")])

    assert leases.unseen(["s:1", "s:2", "s:9"]) == {"s:2"}


def test_a_look_that_comes_too_late_proves_nothing(leases: Leases, clock: Clock) -> None:
    leases.looked(["s:1"], clock.pass_(LOOK_VALID_S + 1))
    leases.add([received("1", "second")])

    assert leases.unseen(["s:1"]) == {"s:1"}

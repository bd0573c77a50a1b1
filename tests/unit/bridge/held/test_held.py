import pytest

from lowtide.bridge.held.held import LEASE_S, LOOK_VALID_S, Held
from lowtide.bridge.messages.kinds import Translated
from lowtide.tasks.wire.request import InferenceRequest
from tests.clock import Clock
from tests.unit.bridge.received import received


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held(clock: Clock) -> Held:
    made = Held(clock)
    made.add([received("1"), received("2")])
    return made


def test_another_delivery_of_a_held_message_brings_its_ack_id_only(held: Held) -> None:
    assert held.add([received("1", ack_id="second"), received("3")]) == [received("3")]
    assert held.ack_ids(["s:1", "s:2"]) == {"s": ["second", "ack-2"]}
    assert (len(held), held.message_bytes) == (3, 3 * received("3").size_bytes)


def test_attributes_are_held_as_data_is(held: Held) -> None:
    before = held.message_bytes
    held.add([received("3", attributes={"k": "v" * 1000})])
    assert held.message_bytes - before > 1000
    held.release(["s:3"])
    assert held.message_bytes == before


def test_what_was_renewed_in_time_each_time_is_surely_ours(held: Held, clock: Clock) -> None:
    for _ in range(3):
        clock.pass_(LEASE_S)
        assert held.renewed(["s:1"], clock.now_s) == 0

    assert held.surely_ours(["s:1", "s:2", "s:9"]) == ["s:1"]


def test_what_lapsed_once_is_never_surely_ours_again(held: Held, clock: Clock) -> None:
    clock.pass_(LEASE_S + 1)
    assert held.renewed(["s:1"], clock.now_s) == 1
    assert held.renewed(["s:1"], clock.now_s) == 0

    assert held.surely_ours(["s:1"]) == []


def test_what_was_delivered_twice_is_not_surely_ours(held: Held) -> None:
    held.add([received("1", ack_id="second")])

    assert held.surely_ours(["s:1", "s:2"]) == ["s:2"]


def test_looks_in_time_keep_a_message_seen(held: Held, clock: Clock) -> None:
    for _ in range(3):
        held.looked(["s:1"], clock.pass_(LOOK_VALID_S))
    held.add([received("1", ack_id="second")])

    assert held.unseen(["s:1", "s:2", "s:9"]) == {"s:2"}


def test_a_look_that_comes_too_late_proves_nothing(held: Held, clock: Clock) -> None:
    held.looked(["s:1"], clock.pass_(LOOK_VALID_S + 1))
    held.add([received("1", ack_id="second")])

    assert held.unseen(["s:1"]) == {"s:1"}


def sent(held: Held, task_id: str, *items: tuple[str, bytes]) -> None:
    """A chunk of messages by their ids, with content."""
    request = {"model": "m"}
    translated = [
        Translated(
            received=received(message_id),
            request=InferenceRequest.parse({**request, "data": content}, travelled=True),
            reply_topic="t",
        )
        for message_id, content in items
    ]
    held.add(item.received for item in translated)
    held.sent(task_id, translated)


def to_delete(held: Held) -> list[str]:
    with held.to_delete.take(10, timeout_s=0.0) as task_ids:
        return task_ids


def test_a_chunk_is_deleted_when_the_last_of_its_messages_is_released_after_its_result_came(held: Held) -> None:
    """Until then its content is in Redis."""
    sent(held, "a", ("1", b"12345"), ("2", b"123"))
    sent(held, "b", ("3", b"1"))
    assert (held.requests, held.chunks_sent, held.content_bytes) == (3, 2, 9)

    held.release(["s:3"])
    assert to_delete(held) == [], "its result may still come"
    held.answered("a")
    held.answered("b")
    assert (held.requests, held.chunks_sent, held.content_bytes) == (0, 0, 8)
    held.release(["s:1", "s:1", "s:9"])
    assert to_delete(held) == []
    held.release(["s:2"])
    assert to_delete(held) == ["a"]
    assert held.content_bytes == 0


def test_a_message_that_came_again_in_another_chunk_says_nothing_of_the_first(held: Held) -> None:
    sent(held, "a", ("1", b"x"), ("2", b"x"))
    held.release(["s:1"])
    sent(held, "b", ("1", b"x"))
    held.answered("a")
    held.answered("b")
    held.release(["s:1"])
    assert to_delete(held) == ["b"]
    held.release(["s:2"])
    assert to_delete(held) == ["a"]


def test_another_delivery_of_a_message_leaves_it_in_its_chunk(held: Held) -> None:
    sent(held, "a", ("1", b"x"))
    held.add([received("1", ack_id="second")])
    held.answered("a")
    assert held.release(["s:1"]) == {"s": ["second"]}
    assert to_delete(held) == ["a"]


def test_a_result_that_comes_twice_is_one(held: Held) -> None:
    sent(held, "a", ("1", b"x"))
    assert held.answered("a") is not None
    assert held.answered("a") is None

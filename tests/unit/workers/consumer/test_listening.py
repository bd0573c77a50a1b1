import pytest

from lowtide.workers.consumer.listening import Listening
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listening(clock: Clock) -> Listening:
    return Listening(["a", "a.topic"], patience_s=30, clock=clock)


def test_a_queue_that_was_cancelled_is_told_and_listened_to_again_in_time(clock: Clock, listening: Listening) -> None:
    assert (listening.look({"a", "a.topic"}.__contains__), listening.deaf_to) == ([], ())
    assert (listening.look({"a"}.__contains__), listening.deaf_to) == ([], ("a.topic",))
    clock.now_s += 20
    assert (listening.look(set().__contains__), listening.deaf_to) == ([], ("a", "a.topic"))
    clock.now_s += 10
    assert listening.look(set().__contains__) == ["a.topic"]
    assert (listening.look({"a.topic", "a"}.__contains__), listening.deaf_to) == ([], ())


def test_who_is_given_back_a_queue_in_time_has_nothing_mended(clock: Clock, listening: Listening) -> None:
    listening.look({"a"}.__contains__)
    clock.now_s += 29
    listening.look({"a", "a.topic"}.__contains__)
    listening.look({"a"}.__contains__)
    clock.now_s += 29
    assert listening.look({"a"}.__contains__) == []

import pytest

from lowtide.workers.consumer.loop_liveness import LONGEST_TURN_S, LoopLiveness
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> LoopLiveness:
    return LoopLiveness(stuck_after_s=20, clock=clock)


def test_a_loop_that_stands_still_for_too_long_is_stuck(clock: Clock, liveness: LoopLiveness) -> None:
    liveness.beat()
    clock.now_s += 20
    assert liveness.stuck() is None
    clock.now_s += 1
    assert liveness.stuck() == "Celery's event loop has stood still for 21 s"
    liveness.beat()
    assert liveness.stuck() is None


def test_before_the_first_connection_and_between_two_nothing_is_stuck(clock: Clock, liveness: LoopLiveness) -> None:
    clock.now_s += 1000
    assert liveness.stuck() is None
    liveness.beat()
    liveness.rest()
    clock.now_s += 1000
    assert liveness.stuck() is None


def test_a_loop_that_sleeps_as_long_as_it_may_is_not_stuck_however_impatient_the_settings(clock: Clock) -> None:
    liveness = LoopLiveness(stuck_after_s=0.5, clock=clock)
    liveness.beat()
    clock.now_s += LONGEST_TURN_S
    assert liveness.stuck() is None

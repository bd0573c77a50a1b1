import pytest

from lowtide.tasks.transport.pulse import LONGEST_TURN_S, Pulse


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(clock: Clock) -> Pulse:
    return Pulse(stuck_after_s=20, clock=clock)


def test_a_loop_that_stands_still_for_too_long_is_stuck(clock: Clock, pulse: Pulse) -> None:
    pulse.beat()
    clock.now_s += 20
    assert pulse.stuck() is None
    clock.now_s += 1
    assert pulse.stuck() == "Celery's event loop has stood still for 21 s"
    pulse.beat()
    assert pulse.stuck() is None


def test_before_the_first_connection_and_between_two_nothing_is_stuck(clock: Clock, pulse: Pulse) -> None:
    clock.now_s += 1000
    assert pulse.stuck() is None
    pulse.beat()
    pulse.rest()
    clock.now_s += 1000
    assert pulse.stuck() is None


def test_a_loop_that_sleeps_as_long_as_it_may_is_not_stuck_however_impatient_the_settings(clock: Clock) -> None:
    pulse = Pulse(stuck_after_s=0.5, clock=clock)
    pulse.beat()
    clock.now_s += LONGEST_TURN_S
    assert pulse.stuck() is None


def test_a_loop_of_a_worker_that_ends_is_not_stuck(clock: Clock) -> None:
    pulse = Pulse(stuck_after_s=20, closed=lambda: True, clock=clock)
    pulse.beat()
    clock.now_s += 1000
    assert pulse.stuck() is None

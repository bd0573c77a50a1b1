import threading
import time

import pytest

from lowtide.config.process.loop import Loop, Periodic

PATIENCE_S = 10.0


def test_a_periodic_turn_that_fails_is_logged_and_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    turns, third = [], threading.Event()

    def turn() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            third.set()
        raise ValueError("a mistake of ours")

    periodic = Periodic("watch", turn, pause_s=lambda: 0.0)
    periodic.start()
    assert third.wait(PATIENCE_S)
    periodic.stop()

    assert "a turn of watch failed" in caplog.text
    assert "a mistake of ours" in caplog.text


@pytest.mark.parametrize("at_once", [True, False])
def test_the_first_turn_comes_after_a_pause_unless_it_shall_not(at_once: bool) -> None:
    first = threading.Event()
    periodic = Periodic("watch", first.set, pause_s=lambda: 3600.0, at_once=at_once)
    periodic.start()
    assert first.wait(PATIENCE_S if at_once else 0.2) is at_once
    periodic.wake()
    assert first.wait(PATIENCE_S)
    periodic.stop()


def test_a_stop_ends_a_pause_and_waits_for_a_turn_for_so_long_as_it_is_told() -> None:
    began, let_go = threading.Event(), threading.Event()

    def turn() -> None:
        began.set()
        let_go.wait(PATIENCE_S)

    periodic = Periodic("watch", turn, pause_s=lambda: 3600.0, at_once=True)
    periodic.start()
    assert began.wait(PATIENCE_S)
    periodic.stop(0.01)
    assert periodic.stopping
    assert "watch" in {thread.name for thread in threading.enumerate()}
    let_go.set()
    periodic.stop()
    assert "watch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("at_end", [True, False])
def test_a_last_turn_comes_at_the_end_if_it_shall(at_end: bool) -> None:
    turns: list[int] = []
    periodic = Periodic("watch", lambda: turns.append(1), pause_s=lambda: 3600.0, at_end=at_end)
    periodic.start()
    periodic.stop()
    periodic.stop()
    assert len(turns) == at_end


def test_a_periodic_that_was_never_started_stops() -> None:
    Periodic("watch", lambda: None, pause_s=lambda: 0.0).stop()


def test_a_loop_ends_with_what_its_turn_raises_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def turn() -> None:
        raise ValueError("a mistake of ours")

    loop = Loop("settler", turn, stuck_after_s=60)
    loop.start()
    loop.stop(PATIENCE_S)

    assert loop.failed
    assert "settler failed" in caplog.text


def test_a_loop_whose_turn_does_not_end_is_stuck_after_a_while() -> None:
    began, let_go = threading.Event(), threading.Event()

    def turn() -> None:
        began.set()
        let_go.wait(PATIENCE_S)

    loop = Loop("settler", turn, stuck_after_s=60)
    loop.start()
    assert began.wait(PATIENCE_S)
    now_s = time.monotonic()
    assert (loop.stuck(now_s), loop.stuck(now_s + 61)) == (False, True)
    assert not loop.stop(0.0)
    let_go.set()
    assert loop.stop(PATIENCE_S)

import threading

from lowtide.tasks.running.gate import Gate

WAIT_S = 10


def started(run) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_one_that_wants_to_be_alone_waits_for_the_others_and_closes_the_gate_meanwhile() -> None:
    gate, order = Gate(), []

    def alone() -> None:
        with gate.alone():
            order.append("alone")

    with gate.together():
        with gate.together():
            assert not gate.closed
            waiting = started(alone)
            while not gate.closed:
                pass
            with gate.together():  # was here already, so to say: goes first
                order.append("together")
        assert order == ["together"]
    waiting.join(WAIT_S)
    assert order == ["together", "alone"]
    assert not gate.closed


def test_nobody_runs_beside_one_that_is_alone() -> None:
    gate, inside, others = Gate(), threading.Event(), []

    def run(way) -> None:
        with way():
            others.append(inside.is_set())

    with gate.alone():
        inside.set()
        threads = [started(lambda way=way: run(way)) for way in (gate.together, gate.alone, gate.together)]
        threads[0].join(0.1)
        assert others == []
        inside.clear()
    for thread in threads:
        thread.join(WAIT_S)
    assert others == [False] * 3
    assert not gate.closed


def test_the_gate_opens_again_when_one_that_was_alone_fails() -> None:
    gate = Gate()
    try:
        with gate.alone():
            raise ValueError
    except ValueError:
        pass
    with gate.together():
        assert not gate.closed

"""A task after a loss: its requests run in groups or one by one, and whoever takes the worker down is found out."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable

from lowtide.local.process import tied
from lowtide.tasks import Outcome, port
from lowtide.tasks.errors import EngineStopped, HandBack
from lowtide.tasks.redis.keys import LOSS_S, Keys
from lowtide.tasks.running.gate import GATE
from lowtide.tasks.running.losses import STRIKES_MAX, History, Losses, Mark
from lowtide.tasks.running.run import Run
from lowtide.tasks.stub import StubEngine

WORKER = """
import os, sys
from pathlib import Path
from lowtide.config import load_settings
from lowtide.tasks import port
from lowtide.tasks.app import app
from lowtide.tasks.running.gate import GATE
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.stub import StubEngine
from lowtide.workers.consumer.install import install

def outputs_of(request):
    with Path(sys.argv[1]).open("a") as ran:
        ran.write(request.uri + " ")
    if request.uri == "crash":
        os.abort()
    return [request.uri]

port.plug(StubEngine(outputs_of))
settings, slot = load_settings(), Path(sys.argv[2])
heartbeat = Heartbeat(connect(settings), Keys.of(settings), kind="worker", on_registered=slot.write_text)
install(
    settings=settings,
    heartbeat=heartbeat,
    predecessor=slot.read_text() if slot.exists() else None,
    seconds_per_request=lambda _: 0.001,
    closed=lambda: GATE.closed,
)
heartbeat.start()
app.worker_main(["worker", "-P", "threads", "-c", "4", "-Q", "lowtide.m", "--without-gossip", "--without-mingle"])
"""

KEYS = Keys("")
TASK = "owner.1"
WAIT_S = 60.0
"""For a worker to start on a busy machine, and to end."""


class Recording(StubEngine):
    """Remembers what was submitted together; stops the engine, or the process, at the word of a uri."""

    def __init__(self) -> None:
        super().__init__(lambda request: [request.uri])
        self.batches: list[list[str]] = []
        self.steps: list[str] = []
        self.fetching: Callable[[], object] = lambda: None

    def fetch(self, requests: Sequence) -> Sequence:
        self.steps.append("fetch")
        self.fetching()
        if any(request.uri == "fetch crash" for request in requests):
            raise SystemExit
        return super().fetch(requests)

    def submit(self, requests: Sequence) -> list[Future[Outcome]]:
        uris = [request.uri for request in requests]
        self.steps.append("run")
        self.batches.append(uris)
        if "crash" in uris or "fetch crash" in uris:
            raise SystemExit
        futures = list(super().submit(requests))
        for index, uri in enumerate(uris):
            if uri in ("stop", "hang"):
                futures[index] = Future()
                futures[index].set_exception(EngineStopped("drain", implicated=uri == "hang"))
        return futures


@pytest.fixture
def engine() -> Iterator[Recording]:
    plugged = Recording()
    port.plug(plugged)
    yield plugged
    port.plug(None)


class Looked(Losses):
    """Losses, with what a test does after each look."""

    then: Callable[[], object] = staticmethod(lambda: None)

    def look(self, task: str) -> History:
        history = super().look(task)
        self.then()
        return history


@pytest.fixture
def losses(redis: Redis) -> Looked:
    return Looked(redis, KEYS)


@pytest.fixture
def run(losses: Losses, engine: Recording) -> Callable[..., list]:
    def run(*uris: str, redelivered: bool = True) -> list:
        requests = [{"model": "m", "uri": uri} if uri else {"uri": uri} for uri in uris]
        outcomes = Run(TASK, requests, lambda: losses).outcomes(redelivered=redelivered)
        return [outcome.outputs[0] if outcome.outputs else outcome.error.type for outcome in outcomes]

    return run


def test_without_a_loss_all_run_at_once(run, engine) -> None:
    assert run("a", "", "b") == ["a", "invalid_request", "b"]
    assert engine.batches == [["a", "b"]]


def test_after_a_loss_they_run_one_by_one_and_alone(run, engine, losses) -> None:
    losses.lost(TASK)
    assert run("a", "", "b") == ["a", "invalid_request", "b"]
    assert engine.batches == [["a"], ["b"]]
    assert not GATE.closed


def test_a_request_that_takes_its_worker_with_it_is_given_up_after_three_strikes_and_its_neighbours_run_once(
    run, engine, losses
) -> None:
    losses.lost(TASK)
    for _ in range(STRIKES_MAX):
        with pytest.raises(SystemExit):
            run("a", "crash", "b")
        losses.lost(TASK)
    assert run("a", "crash", "b") == ["a", "worker_lost", "b"]
    assert engine.batches == [["a"], ["crash"], ["crash"], ["crash"], ["b"]]


def to_the_end(run: Callable[..., list], losses: Losses, *uris: str) -> tuple[int, list]:
    """How often a worker was lost until all had an outcome, and the outcomes."""
    for lost in range(10):
        try:
            return lost, run(*uris, redelivered=lost > 0)
        except SystemExit:
            losses.lost(TASK)
    pytest.fail("there is no end of losses")


def test_of_a_hundred_the_poisonous_request_is_given_up_after_five_losses_and_its_neighbours_are_answered_once(
    run, engine, losses
) -> None:
    uris = [*(str(index) for index in range(42)), "crash", *(str(index) for index in range(43, 100))]
    lost, outcomes = to_the_end(run, losses, *uris)

    assert lost == 1 + 1 + STRIKES_MAX
    assert outcomes == [*uris[:42], "worker_lost", *uris[43:]]
    ran = Counter(uri for batch in engine.batches if "crash" not in batch for uri in batch)
    assert ran == Counter(set(uris) - {"crash"})
    assert [len(batch) for batch in engine.batches] == [100, *[10] * 5, 1, 1, *[1] * 3, *[1] * 7, *[10] * 5]


def test_an_accident_while_a_group_runs_splits_it_for_good_and_is_no_strike(run, engine, losses) -> None:
    losses.lost(TASK)
    with pytest.raises(SystemExit):
        run("a", "crash", "c", "d")
    losses.lost(TASK)
    losses.lost(TASK)  # before it ran anything
    assert (losses.look(TASK).split, losses.look(TASK).strikes) == ({0}, {})
    engine.batches.clear()
    assert run("a", "b", "c", "d") == ["a", "b", "c", "d"]
    assert engine.batches == [["a"], ["b"], ["c", "d"]]


def test_of_a_group_that_hung_what_is_done_is_not_run_again_and_the_rest_runs_alone(run, engine, losses) -> None:
    losses.lost(TASK)
    with pytest.raises(HandBack):
        run("a", "hang", "c", "d")
    assert losses.look(TASK).losses == 2
    engine.batches.clear()
    assert run("a", "b", "c", "d") == ["a", "b", "c", "d"]
    assert engine.batches == [["b"], ["c", "d"]]


def test_content_that_ends_the_process_while_it_is_fetched_is_given_up_after_seven_losses(run, engine, losses) -> None:
    lost, outcomes = to_the_end(run, losses, "a", "b", "fetch crash", "d")

    assert lost == 1 + 2 + 1 + STRIKES_MAX
    assert outcomes == ["a", "b", "worker_lost", "d"]


def test_while_content_of_a_lost_task_is_fetched_others_run(run, engine, losses) -> None:
    began, others_ran = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        assert others_ran.wait(30)

    engine.fetching = slow
    losses.lost(TASK)
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(run, "a", "b")
        assert began.wait(30)
        assert not GATE.closed
        assert run("c", redelivered=False) == ["c"]
        others_ran.set()
        assert lost.result(30) == ["a", "b"]


def test_of_two_lost_tasks_the_second_fetches_when_the_first_is_done(run, engine, losses) -> None:
    both_here = threading.Barrier(2)
    losses.lost(TASK)
    losses.then = lambda: both_here.wait(30)
    with ThreadPoolExecutor() as pool:
        assert [one.result(30) for one in [pool.submit(run, "a") for _ in range(2)]] == [["a"]] * 2
    assert engine.steps == ["fetch", "run"] * 2


def test_a_loss_while_several_ran_is_no_strike(run, losses) -> None:
    for _ in range(STRIKES_MAX + 1):
        with pytest.raises(SystemExit):
            run("a", "crash", redelivered=False)
        losses.lost(TASK)
    assert losses.look(TASK).strikes == {}


def test_a_drain_is_no_strike_however_often(run, losses) -> None:
    losses.lost(TASK)
    for _ in range(STRIKES_MAX + 1):
        with pytest.raises(HandBack):
            run("a", "stop")
    losses.lost(TASK)
    assert losses.look(TASK).strikes == {}


def test_a_mark_that_was_written_but_not_confirmed_is_no_strike_however_often(run, losses) -> None:
    losses.lost(TASK)
    for _ in range(STRIKES_MAX + 1):
        losses.mark(TASK, Mark(place=0, after=losses.look(TASK).losses))
        # There is no answer, so the task goes back.
        assert losses.look(TASK).strikes == {}
    assert run("a") == ["a"]
    losses.lost(TASK)
    assert losses.look(TASK).strikes == {}


def test_a_loss_while_a_request_ran_alone_is_a_strike_and_a_loss_before_it_ran_is_not(run, losses) -> None:
    losses.lost(TASK)
    for strikes in (1, 2):
        with pytest.raises(SystemExit):
            run("crash")
        losses.lost(TASK)
        assert losses.look(TASK).strikes == {0: strikes}
        losses.lost(TASK)
        assert losses.look(TASK).strikes == {0: strikes}


def test_what_was_done_before_a_drain_is_not_run_again(run, engine) -> None:
    with pytest.raises(HandBack):
        run("a", "stop", "b")
    engine.batches.clear()
    with pytest.raises(HandBack):
        run("a", "stop", "b")
    assert engine.batches == [["stop"]]


def test_what_was_on_the_device_when_it_hung_runs_alone_the_next_time(run, losses) -> None:
    with pytest.raises(HandBack):
        run("a", "hang")
    assert losses.look(TASK).losses == 1


def test_histories_are_forgotten_after_a_day(run, redis, losses) -> None:
    losses.lost(TASK)
    with pytest.raises(SystemExit):
        run("a", "crash")
    for key in (KEYS.loss(TASK), KEYS.strike(TASK), KEYS.part(TASK)):
        assert 0 < redis.ttl(key) <= LOSS_S


def test_a_task_whose_history_cannot_be_read_does_not_run(engine) -> None:
    with Redis(port=1, retry=None) as nobody:
        run = Run(TASK, [{"model": "m", "uri": "a"}], lambda: Losses(nobody, KEYS))
        with pytest.raises(Unreachable):
            run.outcomes(redelivered=True)
    assert engine.batches == []


def test_of_a_chunk_that_takes_down_one_worker_after_the_other_all_but_the_culprit_are_answered(
    redis_url, redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", redis_url)
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    requests = [{"model": "m", "uri": uri} for uri in ("a", "b", "crash", "c")]
    ran = tmp_path / "ran"
    command = [sys.executable, "-c", WORKER, str(ran), str(tmp_path / "slot")]
    chunk = app.send_task("lowtide.infer_chunk", [requests], queue="lowtide.m")
    try:
        for _ in range(1 + 1 + STRIKES_MAX):
            crashing = subprocess.run(tied(command), capture_output=True, timeout=WAIT_S)
            assert crashing.returncode == -signal.SIGABRT
        surviving = subprocess.Popen(tied(command), stderr=subprocess.DEVNULL)
        outcomes = chunk.get(WAIT_S)
        surviving.terminate()
        assert surviving.wait(WAIT_S) == 0
    finally:
        app.backend.result_consumer.stop()
        app.close()

    assert [outcome["outputs"] for outcome in outcomes] == [["a"], ["b"], [], ["c"]]
    assert outcomes[2]["error"]["type"] == "worker_lost"
    together = ["a", "b", "crash"]
    assert ran.read_text().split() == [*together, "a", "b", "crash", *["crash"] * STRIKES_MAX, "c"]

"""A task after a loss: its requests run one by one, and whoever takes the worker down is found out."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable

from lowtide.local.process import tied
from lowtide.tasks import Outcome, port
from lowtide.tasks.errors import EngineStopped, HandBack
from lowtide.tasks.gate import GATE
from lowtide.tasks.keys import LOSS_S, Keys
from lowtide.tasks.losses import STRIKES_MAX, Losses
from lowtide.tasks.run import Run
from lowtide.tasks.stub import StubEngine

WORKER = """
import os, sys
from pathlib import Path
from lowtide.config import load_settings
from lowtide.tasks import port, transport
from lowtide.tasks.app import app
from lowtide.tasks.gate import GATE
from lowtide.tasks.stub import StubEngine

def outputs_of(request):
    with Path(sys.argv[1]).open("a") as ran:
        ran.write(request.uri + " ")
    if request.uri == "crash":
        os.abort()
    return [request.uri]

port.plug(StubEngine(outputs_of))
transport.install(
    settings=load_settings(), worker="test:0", seconds_per_request=lambda _: 0.001, closed=lambda: GATE.closed
)
app.worker_main(["worker", "-P", "threads", "-c", "4", "-Q", "lowtide.m", "--without-gossip", "--without-mingle"])
"""

KEYS = Keys("")
TASK = "owner.1"


class Recording(StubEngine):
    """Remembers what was submitted together; stops the engine, or the process, at the word of a uri."""

    def __init__(self) -> None:
        super().__init__(lambda request: [request.uri])
        self.batches: list[list[str]] = []

    def submit(self, requests: Sequence) -> list[Future[Outcome]]:
        uris = [request.uri for request in requests]
        self.batches.append(uris)
        if "crash" in uris:
            raise SystemExit
        futures = list(super().submit(requests))
        for index, uri in enumerate(uris):
            if uri in ("stop", "suspect"):
                futures[index] = Future()
                futures[index].set_exception(EngineStopped("drain", suspect=uri == "suspect"))
        return futures


@pytest.fixture
def engine() -> Iterator[Recording]:
    plugged = Recording()
    port.plug(plugged)
    yield plugged
    port.plug(None)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def losses(redis: Redis) -> Losses:
    return Losses(redis, KEYS)


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
        losses.mark(TASK, 0, after=losses.look(TASK).losses)  # and there is no answer, so the task goes back
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
        run("a", "suspect")
    assert losses.look(TASK).losses == 1


def test_histories_are_forgotten_after_a_day(run, redis, losses) -> None:
    losses.lost(TASK)
    with pytest.raises(SystemExit):
        run("a", "crash")
    for key in (KEYS.loss(TASK), KEYS.strike(TASK), KEYS.part(TASK)):
        assert 0 < redis.ttl(key) <= LOSS_S


def test_a_task_whose_history_cannot_be_read_goes_back(engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowtide.tasks.run.PAUSE_S", 0.0)
    with Redis(port=1, retry=None) as nobody:
        run = Run(TASK, [{"model": "m", "uri": "a"}], lambda: Losses(nobody, KEYS))
        with pytest.raises(HandBack) as caught:
            run.outcomes(redelivered=True)
    assert isinstance(caught.value.__cause__, Unreachable)
    assert engine.batches == []


def test_of_a_chunk_that_takes_down_one_worker_after_the_other_all_but_the_culprit_are_answered(
    redis_url, redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", redis_url)
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    requests = [{"model": "m", "uri": uri} for uri in ("a", "b", "crash", "c")]
    ran = tmp_path / "ran"
    command = [sys.executable, "-c", WORKER, str(ran)]
    chunk = app.send_task("lowtide.infer_chunk", [requests], queue="lowtide.m")
    try:
        for _ in range(1 + STRIKES_MAX):
            crashing = subprocess.run(tied(command), capture_output=True, timeout=30)
            assert crashing.returncode == -signal.SIGABRT
        surviving = subprocess.Popen(tied(command), stderr=subprocess.DEVNULL)
        outcomes = chunk.get(30)
        surviving.terminate()
        assert surviving.wait(30) == 0
    finally:
        app.backend.result_consumer.stop()
        app.close()

    assert [outcome["outputs"] for outcome in outcomes] == [["a"], ["b"], [], ["c"]]
    assert outcomes[2]["error"]["type"] == "worker_lost"
    assert ran.read_text().split() == ["a", "b", "crash", "a", "b", "crash", "crash", "crash", "c"]

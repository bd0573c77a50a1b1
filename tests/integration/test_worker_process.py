import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from lowtide.cli.answers.silence import cause_of
from lowtide.config import Settings
from lowtide.local.process import tied
from lowtide.tasks import InferenceRequest, RequestFailed, infer, infer_chunk
from lowtide.tasks.app import configure
from lowtide.tasks.chunks.results import read_result
from lowtide.tasks.chunks.sending import Chunk, ChunkSender
from lowtide.tasks.held.moves import Moves
from lowtide.tasks.queues import WIRE_VERSION_HEADER
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from lowtide.tasks.wire.version import WIRE_VERSION
from lowtide.workers.consumer.receive import HOLD_BACK_S
from tests.cloud_storage import CloudStorage, Unavailable
from tests.fleet import LOWTIDE
from tests.ports import steady_port
from tests.waiting import until

WAIT_S = 60  # a worker imports torch; on a busy machine that takes a while

MODEL = '''
import os, time
import torch
from lowtide.workers.model import Model

class Sum(Model):
    """The sum of two bytes. A batch with one that is to wait does so until the test says `go`."""

    def load(self, device):
        self.version = "v1"

    def decode(self, content, params):
        return torch.tensor([*content[:2], params.get("waits", 0)], dtype=torch.float32)

    def predict(self, batch):
        open("predicting", "w").close()
        while batch[:, 2].any() and not os.path.exists("go"):
            time.sleep(0.02)
        return batch[:, :2].sum(dim=1)

    def encode(self, output, params):
        return [int(output)]
'''

LOADING = """
import torch
from tiny_model import Sum

class Loading(Sum):
    def load(self, device):
        open("loading", "w").close()
        weights = torch.rand(2000, 2000)
        while True:
            weights = weights @ weights
"""

GREEDY = """
import ctypes
from tiny_model import Sum

class Greedy(Sum):
    def predict(self, batch):
        ctypes.PyDLL(None).sleep(600)  # keeps the interpreter's lock
"""

STANDING_STILL = """
import time
from celery.signals import task_received
from tiny_model import Sum

@task_received.connect(weak=False)
def stand_still(**_):
    time.sleep(600)  # on Celery's event loop

class Still(Sum):
    pass
"""

PROGRAM = """
import sys
from lowtide.config import load_settings
from lowtide.config.process.logs import configure_logging
from lowtide.workers.worker import run_worker

settings = load_settings()
configure_logging(settings)
sys.exit(run_worker(settings))
"""


class Broken(CloudStorage):
    """It answers 503."""

    def read(self, name: str) -> bytes | None:
        raise Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    process: subprocess.Popen[bytes]
    log: Path
    settings: Settings

    def until(self, condition: Callable[[], Any], *, what: str = "") -> Any:
        """What the condition gives as soon as it is true. The process lives until then."""

        def met() -> Any:
            assert self.process.poll() is None, self.log.read_text()
            return condition()

        return until(met, what=what)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(WAIT_S)


@pytest.fixture
def start_worker(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    (tmp_path / "tiny_model.py").write_text(MODEL)
    started: list[WorkerProcess] = []

    def start(*, when: Callable[[], bool] | None = None, **settings: Any) -> WorkerProcess:
        values = {"redis_url": redis_url, "models": "sum=tiny_model:Sum", "device": "cpu", "decode_threads": 2}
        values |= settings
        environment = {f"LOWTIDE_{name.upper()}": str(value) for name, value in values.items()}
        log = tmp_path / f"worker-{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                tied([sys.executable, "-c", PROGRAM]),
                env={**os.environ, **environment},
                cwd=tmp_path,
                stdout=output,
                stderr=output,
            )
        worker = WorkerProcess(process=process, log=log, settings=Settings(**values))
        started.append(worker)
        worker.until(when or (lambda: " ready." in log.read_text()), what="its start")
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


@pytest.fixture
def app(redis_url: str) -> Celery:
    return configure(Settings(redis_url=redis_url))


def health(worker: WorkerProcess) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.settings.health_port}/healthz", timeout=5) as answer:
        return json.load(answer)


def request(a: int, b: int, **fields: Any) -> InferenceRequest:
    return InferenceRequest(model="sum", data=base64.b64encode(bytes([a, b])).decode(), **fields)


def put_back(redis: Redis) -> int:
    """How often a message went back to its list: its losses are counted then, none or one."""
    return int(redis.info("commandstats").get("cmdstat_incrby", {"calls": 0})["calls"])


def losses(redis: Redis, keys: Keys) -> int:
    return sum(int(redis.get(key) or 0) for key in redis.keys(keys.loss("*")))


def test_a_worker_answers_tells_of_itself_and_finishes_at_sigterm_what_runs(app, redis, start_worker, tmp_path) -> None:
    worker = start_worker(health_port=steady_port())
    keys = Keys.of(worker.settings)
    said = health(worker)
    assert said.pop("start").keys() >= {"process", "imports", "redis", "models", "warm_up_s"}
    assert said == {"status": "ok", "in_process": 0, "done": {}}

    assert infer.delay(request(1, 2)).get(WAIT_S) == [3]
    outcomes = infer_chunk.delay([request(i, 1) for i in range(200)]).get(WAIT_S)
    assert [outcome["outputs"] for outcome in outcomes] == [[i + 1] for i in range(200)]
    assert {outcome["model_version"] for outcome in outcomes} == {"v1"}
    with pytest.raises(RequestFailed, match="not_found|forbidden"):
        infer.delay({"model": "sum", "uri": "file:///etc/passwd"}).get(WAIT_S)

    worker.until(lambda: redis.hexists(keys.rates, "sum"))

    def status() -> dict[str, Any]:
        (said,) = live(redis, keys, "worker").values()
        return said

    worker.until(lambda: status()["done"] == {"ok": 201, "failed": 1})
    assert (status()["models"], status()["devices"]) == (["sum"], ["cpu"])
    worker.until(lambda: not status()["busy"])

    assert not status()["draining"]
    running = infer.delay(request(1, 3, params={"waits": 1}))

    def active() -> list[dict[str, Any]]:
        return [task for tasks in (app.control.inspect(timeout=0.3).active() or {}).values() for task in tasks]

    (shown,) = worker.until(active)
    assert (shown["args"], shown["kwargs"]) == ("sum × 1", ""), "never its content"
    worker.process.send_signal(signal.SIGTERM)
    worker.until(lambda: status()["draining"])
    (tmp_path / "go").touch()
    assert worker.process.wait(WAIT_S) == 0, worker.log.read_text()
    assert running.get(WAIT_S) == [4]
    assert live(redis, keys, "worker") == {}
    assert (redis.hlen(keys.holders), redis.llen(keys.queue("lowtide.sum"))) == (0, 0)


def test_a_worker_tells_when_each_step_of_its_start_ended_and_boot_time_makes_phases_of_it(start_worker) -> None:
    worker = start_worker(health_port=steady_port())
    worker.until(lambda: "ready" in health(worker)["start"])
    start = health(worker)["start"]
    asked = [*LOWTIDE, "deploy", "boot-time", "--port", str(worker.settings.health_port), "--json"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)

    steps = [start[name] for name in ("process", "imports", "redis", "models", "ready")]
    assert steps == sorted(steps)
    told = json.loads(said.stdout)
    assert [phase["name"] for phase in told["phases"]] == ["imports", "redis", "weights", "warm-up", "ready"]
    assert told["took_s"] == pytest.approx(start["ready"] - start["process"], abs=0.01)
    assert "no unit lowtide-worker" in said.stderr
    worker.until(lambda: "taking tasks" in worker.log.read_text())


def test_a_worker_tells_those_who_wait_why_content_is_tried_again(
    app: Celery, redis: Redis, start_worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(Broken()) as cloud_storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud_storage.url)
        worker = start_worker(gs_buckets="photos")
        asked = InferenceRequest(model="sum", uri="gs://photos/cat.jpg")
        assert infer_chunk.delay([asked]).get(timeout=WAIT_S)[0]["status"] == "retry"

        keys = Keys(worker.settings.prefix)
        worker.until(lambda: any(said["retrying"] for said in live(redis, keys, "worker").values()))
    why = cause_of({"bridge": {}}, live(redis, keys, "worker"), "sum")
    assert why.startswith("some requests fail just now and are tried again: gs://photos/cat.jpg: 503 GET ")


def test_a_stop_while_a_model_loads_is_a_clean_end(start_worker, tmp_path) -> None:
    (tmp_path / "loading_model.py").write_text(LOADING)
    worker = start_worker(models="sum=loading_model:Loading", when=(tmp_path / "loading").exists)
    assert worker.stop() == 0, worker.log.read_text()


def test_what_does_not_fit_into_the_grace_goes_back_to_its_queue(app, redis, start_worker, tmp_path) -> None:
    worker = start_worker(grace_s=0.5, batch_max_requests=1)
    keys = Keys.of(worker.settings)
    tasks = [infer.delay(request(i, 0, params={"waits": 1})) for i in range(4)]
    worker.until((tmp_path / "predicting").exists)
    assert worker.stop() == 0, worker.log.read_text()
    assert (redis.hlen(keys.holders), redis.llen(keys.queue("lowtide.sum"))) == (0, 4), worker.log.read_text()
    assert losses(redis, keys) == 0
    assert {task.state for task in tasks} == {"PENDING"}


def test_a_task_of_a_newer_release_goes_back_to_its_queue_unharmed_and_the_others_are_served(
    app, redis, start_worker
) -> None:
    worker = start_worker()
    keys = Keys.of(worker.settings)
    newer = {WIRE_VERSION_HEADER: WIRE_VERSION + 1}
    one = infer.apply_async((request(1, 2),), headers=newer)
    many = infer_chunk.apply_async(([request(3, 4)],), headers=newer)
    worker.until(lambda: redis.hlen(keys.holders) == 2)
    began_s, before = time.monotonic(), put_back(redis)

    stock = Celery("stock", broker=app.conf.broker_url, backend=app.conf.result_backend, set_as_current=False)
    no_version = stock.send_task("lowtide.infer", [request(1, 4).to_wire()], queue="lowtide.sum")
    assert no_version.get(WAIT_S) == [5]
    stock.backend.result_consumer.stop()
    stock.close()
    time.sleep(2.5)
    worker.until(lambda: redis.hlen(keys.holders) == 2)
    rounds = (time.monotonic() - began_s) / HOLD_BACK_S + 1
    assert put_back(redis) - before <= 2 * rounds, "each goes back once in a pause"
    assert worker.stop() == 0, worker.log.read_text()
    told = f"handing back tasks of wire version {WIRE_VERSION + 1}, this worker knows {WIRE_VERSION}"
    assert worker.log.read_text().count(told) == 1
    assert (redis.hlen(keys.holders), redis.llen(keys.queue("lowtide.sum"))) == (0, 2), worker.log.read_text()
    assert losses(redis, keys) == 0
    assert (one.state, many.state) == ("PENDING", "PENDING")


def test_what_is_no_task_costs_neither_the_worker_nor_the_others(app, redis, start_worker) -> None:
    queue = Keys.of(Settings()).queue("lowtide.sum")
    infer.delay(request(1, 2, params={"note": "unquotable"}))
    good = json.loads(redis.lpop(queue))
    body = json.loads(good["body"])

    def message(**properties: Any) -> dict[str, Any]:
        return {**good, "properties": {**good["properties"], "delivery_tag": str(uuid.uuid4()), **properties}}

    def with_headers(*, tag: Any = "", **headers: Any) -> dict[str, Any]:
        properties = {} if tag == "" else {"delivery_tag": tag}
        return {**message(**properties), "headers": {**good["headers"], **headers}}

    def with_body(value: Any) -> dict[str, Any]:
        encoded = base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()
        return {**message(body_encoding="base64"), "body": encoded}

    bad = [
        {},
        [],
        {**good, "headers": "none"},
        with_headers(timelimit=60),
        with_headers(id=7),
        with_headers(id=None),
        with_headers(task=["lowtide.infer"]),
        with_headers(task="os.system"),
        with_headers(eta="tomorrow"),
        with_headers(expires={}),
        with_headers(retries="many"),
        with_headers(lang="c"),
        with_headers(argsrepr={}),
        with_headers(x={"__type__": "decimal", "__value__": "x"}),
        with_headers(tag=6, timelimit=60),
        with_body(b"unquotable \xff"),
        with_body("text"),
        with_body([7, 7, 7]),
        with_body([[], {}, "embed"]),
        with_body(["args", {}, {}]),
        with_body([[], [], {}]),
        with_body([*body, "unquotable"]),
        message(reply_to=7, correlation_id=[]),
        message(delivery_info=None),
        message(delivery_info=[1]),
        message(delivery_tag=None),
        message(delivery_tag=5),
        message(body_encoding="rot13"),
        {**message(), "content-type": "application/x-python-serialize"},
        {**message(), "content-encoding": "klingon"},
    ]
    deep = json.dumps(with_headers(x="deep")).replace('"deep"', "[" * 990 + "]" * 990)
    redis.lpush(queue, "{", "\x80", deep, *map(json.dumps, bad))
    worker = start_worker()
    assert infer.delay(request(1, 3)).get(WAIT_S) == [4]
    worker.until(lambda: not redis.hlen(Keys.of(worker.settings).holders))
    assert worker.stop() == 0, worker.log.read_text()
    assert redis.llen(queue) == 0
    said = worker.log.read_text()
    assert "unquotable" not in said
    assert "no task is called 'os.system': dropped" in said
    assert said.count(" ready.") == 1, "it never had to connect anew"


def test_a_batch_that_does_not_end_is_ended_with_its_process_and_what_it_held_goes_back(
    app, redis, start_worker, tmp_path
) -> None:
    worker = start_worker(batch_deadline_s=0.5, batch_max_requests=1)
    keys = Keys.of(worker.settings)
    hanging = infer.delay(request(1, 2, params={"waits": 1}))
    worker.until((tmp_path / "predicting").exists)
    chunk = infer_chunk.delay([request(i, 0) for i in range(20)])  # there is half a second to take it

    assert worker.process.wait(WAIT_S) == 70
    log = worker.log.read_text()
    assert "a batch of 1 has not ended in time" in log
    assert "tiny_model.py" in log
    with pytest.raises(RequestFailed, match="^timeout: .*LOWTIDE_BATCH_DEADLINE_S"):
        hanging.get(WAIT_S)
    assert (redis.hlen(keys.holders), redis.llen(keys.queue("lowtide.sum"))) == (0, 1)
    assert losses(redis, keys) == 0

    start_worker()
    assert [outcome["outputs"] for outcome in chunk.get(WAIT_S)] == [[i] for i in range(20)]


def test_a_chunk_whose_sender_keeps_no_content_is_answered_though_it_says_that_some_is_beside_it(
    start_worker, redis_url
) -> None:
    start_worker()
    foreign = [{"model": "sum", "blob": [0, 1]}, request(1, 4).to_wire()]
    for header in ({}, {"lowtide-v": 2}):
        with Celery(broker=redis_url, backend=redis_url, set_as_current=False) as stock:
            answer = stock.send_task("lowtide.infer_chunk", [foreign], queue="lowtide.sum", headers=header)
            failed, answered = answer.get(timeout=WAIT_S)
        assert "blob: is not a field of a request" in failed["error"]["message"]
        assert answered["outputs"] == [5]


def test_a_loss_keeps_the_content_beside_a_task(app, redis, start_worker, tmp_path) -> None:
    worker = start_worker(batch_max_requests=1)
    keys = Keys.of(worker.settings)
    requests = tuple(request(number, 0, params={"waits": 1}).to_wire() for number in range(3))
    ChunkSender(app).send([Chunk(task_id="o.1", queue="lowtide.sum", requests=requests, sent_at=0.0)])
    worker.until((tmp_path / "predicting").exists)
    worker.stop(signal.SIGKILL)

    (tmp_path / "go").touch()
    successor = start_worker()
    successor.until(lambda: redis.exists(keys.result("o.1")))
    result = read_result("o.1", redis.get(keys.result("o.1")))
    assert [outcome.outputs for outcome in result.outcomes] == [[0], [1], [2]]
    assert "gave back 1 tasks of this worker's predecessor" in successor.log.read_text()
    assert redis.get(keys.blob("o.1")) == bytes([0, 0, 1, 0, 2, 0])


def test_a_worker_that_stood_still_until_it_was_given_up_finishes_what_it_has_begun_and_is_another_then(
    app, redis, start_worker, tmp_path
) -> None:
    worker = start_worker(batch_max_requests=1)
    keys = Keys.of(worker.settings)
    tasks = [infer.delay(request(number, 0, params={"waits": 1})) for number in range(3)]
    worker.until(lambda: (tmp_path / "predicting").exists() and redis.hlen(keys.holders) == 3)
    [incarnation] = live(redis, keys, "worker")

    worker.process.send_signal(signal.SIGSTOP)
    os.waitpid(worker.process.pid, os.WUNTRACED)
    assert Moves(redis, keys).sweep_whole(incarnation) == 3
    (tmp_path / "go").touch()
    worker.process.send_signal(signal.SIGCONT)

    assert [task.get(WAIT_S) for task in tasks] == [[0], [1], [2]]
    worker.until(lambda: not redis.hlen(keys.holders))
    [(again, status)] = worker.until(lambda: list(live(redis, keys, "worker").items()))
    assert again != incarnation
    assert status["name"].split(":")[1:] == ["0", str(worker.process.pid)]
    assert worker.stop() == 0, worker.log.read_text()
    assert not redis.exists(keys.workers, keys.worker_status, keys.held(again))


def test_a_worker_that_never_lets_the_interpreter_go_is_ended_by_a_timer(app, start_worker, tmp_path) -> None:
    (tmp_path / "greedy_model.py").write_text(GREEDY)
    worker = start_worker(stuck_after_s=2.0, models="sum=greedy_model:Greedy")
    infer.delay(request(1, 2))
    assert worker.process.wait(WAIT_S) == 1
    assert "greedy_model.py" in worker.log.read_text()


def test_a_worker_whose_event_loop_stands_still_ends_and_another_runs_what_it_held(
    app, redis, start_worker, tmp_path
) -> None:
    (tmp_path / "still_model.py").write_text(STANDING_STILL)
    worker = start_worker(stuck_after_s=5.0, models="sum=still_model:Still")
    answer = infer.delay(request(1, 2))

    assert worker.process.wait(WAIT_S) == 70
    log = worker.log.read_text()
    assert "Celery's event loop has stood still for" in log
    assert "still_model.py" in log

    start_worker()
    assert answer.get(WAIT_S) == [3]

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
import redis
from celery import Celery

from lowtide.cli.answers.silence import cause_of
from lowtide.config import Settings
from lowtide.local.process import free_port, tied
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

WAIT_S = 60  # a worker imports torch; on a busy machine that takes a while

MODEL = '''
import time
import torch
from lowtide.workers.model import Model

class Sum(Model):
    """The sum of two bytes; sleeps first for as many seconds as `params` say."""

    def load(self, device):
        self.version = "v1"

    def decode(self, content, params):
        return torch.tensor([*content[:2], params.get("sleep_s", 0.0)], dtype=torch.float32)

    def predict(self, batch):
        open("predicting", "w").close()
        time.sleep(float(batch[:, 2].max()))
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
from lowtide.local.process import free_port

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

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(WAIT_S)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def start_worker(redis_url: str, client: redis.Redis, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    (tmp_path / "tiny_model.py").write_text(MODEL)
    started: list[WorkerProcess] = []

    def start(*, until: Callable[[], bool] | None = None, **settings: Any) -> WorkerProcess:
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
        wait_for(until or (lambda: " ready." in log.read_text()), worker)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


@pytest.fixture
def app(redis_url: str) -> Celery:
    return configure(Settings(redis_url=redis_url))


def wait_for(true: Callable[[], Any], worker: WorkerProcess) -> None:
    until_s = time.monotonic() + WAIT_S
    while not true():
        assert worker.process.poll() is None, worker.log.read_text()
        assert time.monotonic() < until_s, worker.log.read_text()
        time.sleep(0.02)


def health(worker: WorkerProcess) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.settings.health_port}/healthz", timeout=5) as answer:
        return json.load(answer)


def request(a: int, b: int, **fields: Any) -> InferenceRequest:
    return InferenceRequest(model="sum", data=base64.b64encode(bytes([a, b])).decode(), **fields)


def given_back(client: redis.Redis) -> int:
    """How often a message went back to its list."""
    return int(client.info("commandstats").get("cmdstat_rpush", {"calls": 0})["calls"])


def losses(client: redis.Redis, keys: Keys) -> int:
    return sum(int(client.get(key) or 0) for key in client.keys(keys.loss("*")))


def test_a_worker_answers_tells_of_itself_and_finishes_at_sigterm_what_runs(app, client, start_worker) -> None:
    worker = start_worker(health_port=free_port())
    keys = Keys.of(worker.settings)
    assert health(worker) == {"status": "ok", "in_process": 0, "done": {}}

    assert infer.delay(request(1, 2)).get(WAIT_S) == [3]
    outcomes = infer_chunk.delay([request(i, 1) for i in range(200)]).get(WAIT_S)
    assert [outcome["outputs"] for outcome in outcomes] == [[i + 1] for i in range(200)]
    assert {outcome["model_version"] for outcome in outcomes} == {"v1"}
    with pytest.raises(RequestFailed, match="not_found|forbidden"):
        infer.delay({"model": "sum", "uri": "file:///etc/passwd"}).get(WAIT_S)

    wait_for(lambda: client.hexists(keys.rates, "sum"), worker)

    def word() -> dict[str, Any]:
        (said,) = live(client, keys, "worker").values()
        return said

    wait_for(lambda: word()["done"] == {"ok": 201, "failed": 1}, worker)
    assert (word()["models"], word()["devices"]) == (["sum"], ["cpu"])
    wait_for(lambda: not word()["busy"], worker)

    assert not word()["draining"]
    running = infer.delay(request(1, 3, params={"sleep_s": 7.0}))  # for longer than from one word to the next
    wait_for(lambda: client.hlen(keys.holders) == 1, worker)
    time.sleep(0.2)
    (shown,) = app.control.inspect(timeout=0.3).active().popitem()[1]
    assert (shown["args"], shown["kwargs"]) == ("sum × 1", ""), "never its content"
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: word()["draining"], worker)
    assert worker.stop() == 0, worker.log.read_text()
    assert running.get(1) == [4]
    assert live(client, keys, "worker") == {}
    assert (client.hlen(keys.holders), client.llen(keys.queue("lowtide.sum"))) == (0, 0)


def test_a_worker_tells_those_who_wait_why_content_is_tried_again(
    app: Celery, client: redis.Redis, start_worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(Broken()) as cloud_storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud_storage.url)
        worker = start_worker(gs_buckets="photos")
        asked = InferenceRequest(model="sum", uri="gs://photos/cat.jpg")
        assert infer_chunk.delay([asked]).get(timeout=WAIT_S)[0]["status"] == "retry"

        keys = Keys(worker.settings.prefix)
        wait_for(lambda: any(said["retrying"] for said in live(client, keys, "worker").values()), worker)
    why = cause_of({"bridge": {}}, live(client, keys, "worker"), "sum")
    assert why.startswith("some requests fail just now and are tried again: gs://photos/cat.jpg: 503 GET ")


def test_a_stop_while_a_model_loads_is_a_clean_end(start_worker, tmp_path) -> None:
    (tmp_path / "loading_model.py").write_text(LOADING)
    for _ in range(3):
        (tmp_path / "loading").unlink(missing_ok=True)
        worker = start_worker(models="sum=loading_model:Loading", until=(tmp_path / "loading").exists)
        assert worker.stop() == 0, worker.log.read_text()


def test_what_does_not_fit_into_the_grace_goes_back_to_its_queue(app, client, start_worker) -> None:
    worker = start_worker(grace_s=0.5, batch_max_requests=1)
    keys = Keys.of(worker.settings)
    tasks = [infer.delay(request(i, 0, params={"sleep_s": 3.0})) for i in range(4)]
    wait_for(lambda: client.hlen(keys.holders) >= 2, worker)
    time.sleep(0.2)
    began_s = time.monotonic()
    assert worker.stop() == 0, worker.log.read_text()
    assert time.monotonic() - began_s < 5.0
    assert (client.hlen(keys.holders), client.llen(keys.queue("lowtide.sum"))) == (0, 4), worker.log.read_text()
    assert losses(client, keys) == 0
    assert {task.state for task in tasks} == {"PENDING"}


def test_a_task_of_a_newer_release_goes_back_to_its_queue_unharmed_and_the_others_are_served(
    app, client, start_worker
) -> None:
    worker = start_worker()
    keys = Keys.of(worker.settings)
    newer = {WIRE_VERSION_HEADER: WIRE_VERSION + 1}
    one = infer.apply_async((request(1, 2),), headers=newer)
    many = infer_chunk.apply_async(([request(3, 4)],), headers=newer)
    wait_for(lambda: client.hlen(keys.holders) == 2, worker)
    began_s, before = time.monotonic(), given_back(client)

    stock = Celery("stock", broker=app.conf.broker_url, backend=app.conf.result_backend, set_as_current=False)
    no_version = stock.send_task("lowtide.infer", [request(1, 4).to_wire()], queue="lowtide.sum")
    assert no_version.get(WAIT_S) == [5]
    stock.backend.result_consumer.stop()
    stock.close()
    time.sleep(2.5)
    wait_for(lambda: client.hlen(keys.holders) == 2, worker)
    rounds = (time.monotonic() - began_s) / HOLD_BACK_S + 1
    assert given_back(client) - before <= 2 * rounds, "each goes back once in a pause"
    assert worker.stop() == 0, worker.log.read_text()
    told = f"handing back tasks of wire version {WIRE_VERSION + 1}, this worker knows {WIRE_VERSION}"
    assert worker.log.read_text().count(told) == 1
    assert (client.hlen(keys.holders), client.llen(keys.queue("lowtide.sum"))) == (0, 2), worker.log.read_text()
    assert losses(client, keys) == 0
    assert (one.state, many.state) == ("PENDING", "PENDING")


def test_what_is_no_task_costs_neither_the_worker_nor_the_others(app, client, start_worker) -> None:
    queue = Keys.of(Settings()).queue("lowtide.sum")
    infer.delay(request(1, 2, params={"note": "unquotable"}))
    good = json.loads(client.lpop(queue))
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
    client.lpush(queue, "{", "\x80", deep, *map(json.dumps, bad))
    worker = start_worker()
    assert infer.delay(request(1, 3)).get(WAIT_S) == [4]
    wait_for(lambda: not client.hlen(Keys.of(worker.settings).holders), worker)
    assert worker.stop() == 0, worker.log.read_text()
    assert client.llen(queue) == 0
    said = worker.log.read_text()
    assert "unquotable" not in said
    assert "no task is called 'os.system': dropped" in said
    assert said.count(" ready.") == 1, "it never had to connect anew"


def test_a_batch_that_does_not_end_is_ended_with_its_process_and_what_it_held_goes_back(
    app, client, start_worker, tmp_path
) -> None:
    worker = start_worker(batch_deadline_s=0.5, batch_max_requests=1)
    keys = Keys.of(worker.settings)
    hanging = infer.delay(request(1, 2, params={"sleep_s": 600.0}))
    wait_for((tmp_path / "predicting").exists, worker)
    chunk = infer_chunk.delay([request(i, 0) for i in range(20)])
    wait_for(lambda: client.hlen(keys.holders) == 2, worker)

    assert worker.process.wait(WAIT_S) == 70
    log = worker.log.read_text()
    assert "a batch of 1 has not ended in time" in log
    assert "tiny_model.py" in log
    with pytest.raises(RequestFailed, match="^timeout: .*LOWTIDE_BATCH_DEADLINE_S"):
        hanging.get(1)
    assert (client.hlen(keys.holders), client.llen(keys.queue("lowtide.sum"))) == (0, 1)
    assert losses(client, keys) == 0

    start_worker()
    assert [outcome["outputs"] for outcome in chunk.get(WAIT_S)] == [[i] for i in range(20)]


@pytest.mark.parametrize("header", [{}, {"lowtide-v": 2}])
def test_a_chunk_whose_sender_keeps_no_content_is_answered_though_it_says_that_some_is_beside_it(
    start_worker, redis_url, header
) -> None:
    start_worker()
    with Celery(broker=redis_url, backend=redis_url, set_as_current=False) as stock:
        foreign = [{"model": "sum", "blob": [0, 1]}, request(1, 4).to_wire()]
        answer = stock.send_task("lowtide.infer_chunk", [foreign], queue="lowtide.sum", headers=header)
        failed, answered = answer.get(timeout=WAIT_S)
    assert "blob: is not a field of a request" in failed["error"]["message"]
    assert answered["outputs"] == [5]


def test_a_loss_keeps_the_content_beside_a_task(app, client, start_worker, tmp_path) -> None:
    worker = start_worker(batch_max_requests=1)
    keys = Keys.of(worker.settings)
    requests = tuple(request(number, 0, params={"sleep_s": 0.0 if number else 2.0}).to_wire() for number in range(3))
    ChunkSender(app).send([Chunk(task_id="o.1", queue="lowtide.sum", requests=requests, sent_at=0.0)])
    wait_for((tmp_path / "predicting").exists, worker)
    worker.stop(signal.SIGKILL)

    successor = start_worker()
    wait_for(lambda: client.exists(keys.result("o.1")), successor)
    result = read_result("o.1", client.get(keys.result("o.1")))
    assert [outcome.outputs for outcome in result.outcomes] == [[0], [1], [2]]
    assert "gave back 1 tasks of this worker's predecessor" in successor.log.read_text()
    assert client.get(keys.blob("o.1")) == bytes([0, 0, 1, 0, 2, 0])


def test_a_worker_that_stood_still_until_it_was_given_up_finishes_what_it_has_begun_and_is_another_then(
    app, client, start_worker, tmp_path
) -> None:
    worker = start_worker(batch_max_requests=1)
    keys = Keys.of(worker.settings)
    tasks = [infer.delay(request(number, 0, params={"sleep_s": 0.0 if number else 2.0})) for number in range(3)]
    wait_for(lambda: (tmp_path / "predicting").exists() and client.hlen(keys.holders) == 3, worker)
    [incarnation] = live(client, keys, "worker")

    worker.process.send_signal(signal.SIGSTOP)
    assert Moves(client, keys).sweep_whole(incarnation) == 3
    worker.process.send_signal(signal.SIGCONT)

    assert [task.get(WAIT_S) for task in tasks] == [[0], [1], [2]]
    wait_for(lambda: not client.hlen(keys.holders), worker)
    [(again, status)] = live(client, keys, "worker").items()
    assert again != incarnation
    assert status["name"].split(":")[1:] == ["0", str(worker.process.pid)]
    assert worker.stop() == 0, worker.log.read_text()
    assert not client.exists(keys.workers, keys.worker_status, keys.held(again))


def test_a_worker_that_never_lets_the_interpreter_go_is_ended_by_a_timer(app, start_worker, tmp_path) -> None:
    (tmp_path / "greedy_model.py").write_text(GREEDY)
    worker = start_worker(stuck_after_s=0.5, models="sum=greedy_model:Greedy")
    infer.delay(request(1, 2))
    assert worker.process.wait(WAIT_S) == 1
    assert "greedy_model.py" in worker.log.read_text()


def test_a_worker_whose_event_loop_stands_still_ends_and_another_runs_what_it_held(
    app, client, start_worker, tmp_path
) -> None:
    (tmp_path / "still_model.py").write_text(STANDING_STILL)
    worker = start_worker(stuck_after_s=0.5, models="sum=still_model:Still")
    answer = infer.delay(request(1, 2))

    assert worker.process.wait(WAIT_S) == 70
    log = worker.log.read_text()
    assert "Celery's event loop has stood still for" in log
    assert "still_model.py" in log

    start_worker()
    assert answer.get(WAIT_S) == [3]

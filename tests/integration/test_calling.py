import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from lowtide.config import load_settings
from lowtide.local.process import tied
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks import InferenceRequest, NotAnswered, RequestFailed, UnknownModel, infer, infer_async, infer_many
from lowtide.tasks.app import configure
from lowtide.tasks.chunks.dispatch import Looks
from lowtide.tasks.chunks.results import ChunkResults
from lowtide.tasks.chunks.sending import ChunkSender
from lowtide.tasks.client import caller as caller_module
from lowtide.tasks.client import served
from lowtide.tasks.client.caller import Caller
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.redis.keys import Keys
from tests.ports import steady_port
from tests.waiting import until

WAIT_S = 60.0
"""For an answer, and for the worker that gives it to start on a busy machine."""

WORKER = """
from lowtide.tasks import port
from lowtide.tasks.app import app
from lowtide.tasks.queues import worker_queues
from lowtide.tasks.stub import StubEngine
from lowtide.workers.consumer.results import install

def outputs_of(request):
    if request.uri == "gs://b/bad":
        raise ValueError("no good")
    return [f"{request.model} saw {request.uri}"]

port.plug(StubEngine(outputs_of))
install(app)
app.worker_main(["worker", "-P", "threads", "-c", "4", "-Q", ",".join(worker_queues(["a", "b"]))])
"""


CALLING_TWICE = """
from lowtide.tasks import InferenceRequest
from lowtide.tasks.client.caller import caller

def send(uri):
    return caller().submit("lowtide.a", [InferenceRequest(model="a", uri=uri)])

print(send("gs://b/1").result(60)[0].outputs, flush=True)
input()
answer = send("gs://b/2")
print("sent", flush=True)
print(answer.result(60)[0].outputs, flush=True)
"""


FORKING = """
import multiprocessing, os, threading
from lowtide.tasks import infer, infer_many

REQUEST = {"model": "a", "uri": "gs://b/1"}
OUTPUTS = ["a saw gs://b/1"]
stopped = threading.Event()

def call(times):
    for _ in range(times):
        assert infer.delay(REQUEST).get(timeout=60) == OUTPUTS
    assert [answer.outputs for answer in infer_many([REQUEST], timeout_s=60)] == [OUTPUTS]

def call_on():
    while not stopped.is_set():
        call(1)

def child(before):
    assert before.get(timeout=60) == OUTPUTS
    threads = [threading.Thread(target=call, args=(3,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    call(3)
    for thread in threads:
        thread.join()

call(3)
threads = [threading.Thread(target=call_on, daemon=True) for _ in range(3)]  # so that an error ends the process
for thread in threads:
    thread.start()
pids = []
for _ in range(4):
    before = infer.delay(REQUEST)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child(before)
            code = 0
        finally:
            os._exit(code)
    pids.append(pid)
    assert before.get(timeout=60) == OUTPUTS
process = multiprocessing.get_context("fork").Process(target=child, args=(infer.delay(REQUEST),))
process.start()
process.join()
codes = [os.waitpid(pid, 0)[1] for pid in pids] + [process.exitcode]
stopped.set()
for thread in threads:
    thread.join()
call(3)
forgotten = infer.delay(REQUEST)
print(codes, flush=True)
"""


@pytest.fixture
def app(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", redis_url)
    configured = configure(load_settings())
    served._served_of.cache_clear()
    yield configured
    caller_module.close()
    configured.backend.result_consumer.stop()


@contextmanager
def running_worker() -> Iterator[None]:
    process = subprocess.Popen(tied([sys.executable, "-c", WORKER]))
    try:
        yield
    finally:
        process.kill()  # Celery's worker may wait for a Redis that is gone by then
        process.wait()


@contextmanager
def python(program: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def worker(app: Celery) -> Iterator[None]:
    with running_worker():
        yield


def requests(count: int, **fields: object) -> list[dict[str, object]]:
    return [{"model": "ab"[index % 2], "uri": f"gs://b/{index}", **fields} for index in range(count)]


@pytest.mark.usefixtures("worker")
def test_a_call_gives_outputs_or_the_reason_why_not() -> None:
    assert infer.delay({"model": "a", "uri": "gs://b/1"}).get(timeout=WAIT_S) == ["a saw gs://b/1"]
    with pytest.raises(RequestFailed, match="ValueError: no good"):
        infer.delay({"model": "a", "uri": "gs://b/bad"}).get(timeout=WAIT_S)


@pytest.mark.usefixtures("app")
def test_a_model_that_the_fleet_does_not_serve_is_refused_before_anything_is_sent(redis: Redis) -> None:
    Heartbeat(redis, Keys(""), kind="bridge", name="b", status=dict, models=["a"]).beat()
    request = {"model": "c", "uri": "gs://b/1"}
    for call in (infer.delay, lambda r: list(infer_many([r])), lambda r: asyncio.run(infer_async(r))):
        with pytest.raises(UnknownModel, match="c is not served here; served are a"):
            call(request)
    assert redis.keys("lowtide*") == []
    Heartbeat(redis, Keys(""), kind="worker", name="w", status=dict, models=["a", "c"]).beat()
    infer.delay(request).forget()
    assert redis.llen("lowtide.c") == 1


@pytest.mark.usefixtures("worker")
def test_any_celery_app_can_call_by_name(redis_url: str) -> None:
    stock = Celery("stock", broker=redis_url, backend=redis_url, set_as_current=False)
    answer = stock.send_task("lowtide.infer", [{"model": "b", "uri": "gs://b/1"}], queue="lowtide.b").get(
        timeout=WAIT_S
    )
    stock.backend.result_consumer.stop()
    stock.close()

    assert answer == ["b saw gs://b/1"]


@pytest.mark.usefixtures("worker")
def test_a_process_forks_and_parent_and_children_are_answered_also_while_threads_of_the_parent_call() -> None:
    with python(FORKING) as program:
        said, wrong = program.communicate(timeout=100)

    assert (said, wrong) == ("[0, 0, 0, 0, 0]\n", "")


class Bomb:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.usefixtures("worker")
def test_a_pickled_task_is_dropped_and_never_unpickled(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    stock = Celery("stock", broker=redis_url, backend=redis_url, set_as_current=False)
    bomb = [{"model": "a", "uri": "gs://b/1", "params": Bomb(tmp_path / "bomb")}]
    stock.send_task("lowtide.infer", bomb, queue="lowtide.a", serializer="pickle")
    stock.close()

    assert infer.delay({"model": "a", "uri": "gs://b/1"}).get(timeout=WAIT_S) == ["a saw gs://b/1"]
    until(lambda: not redis.llen("lowtide.a") + redis.hlen("unacked"), what="the pickled task is gone")
    assert not (tmp_path / "bomb").exists()


@pytest.mark.usefixtures("worker")
def test_many_requests_are_each_answered_once_and_one_bad_one_fails_alone() -> None:
    given = requests(1000)
    given[17]["uri"] = "gs://b/bad"
    answers = infer_many(given, timeout_s=WAIT_S)

    assert answers.left == 1000
    found = {answer.index: answer for answer in answers}
    assert answers.left == 0
    assert sorted(found) == list(range(1000))
    assert found[16].outputs == ["a saw gs://b/16"]
    with pytest.raises(RequestFailed, match="no good"):
        _ = found[17].outputs
    assert sum(answer.outcome.status == "ok" for answer in found.values()) == 999


@pytest.mark.usefixtures("worker")
def test_an_event_loop_awaits_many_calls_at_once() -> None:
    async def calls() -> list[list[str]]:
        return await asyncio.gather(*(infer_async(request) for request in requests(20)))

    assert [answer[0] for answer in asyncio.run(calls())] == [f"{'ab'[i % 2]} saw gs://b/{i}" for i in range(20)]


@pytest.mark.usefixtures("app")
def test_calls_that_an_event_loop_makes_at_once_are_packed_by_what_workers_measured(redis: Redis) -> None:
    given = [*requests(40), {"model": "a", "uri": "gs://b/bad"}]

    async def calls() -> list[Any]:
        return await asyncio.gather(*map(infer_async, given), return_exceptions=True)

    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.extend(asyncio.run(calls())), daemon=True)
    redis.hset(Keys("").rates, mapping={"a": "0.025", "b": "0.001"})
    asking.start()
    until(lambda: (redis.llen("lowtide.a"), redis.llen("lowtide.b")) == (6, 1))  # 21 by 4 each, and 20
    with running_worker():
        asking.join(WAIT_S)

    assert found[:40] == [[f"{'ab'[i % 2]} saw gs://b/{i}"] for i in range(40)]
    assert isinstance(found[40], RequestFailed), "its neighbours are answered"


@pytest.mark.usefixtures("app")
def test_calls_are_answered_after_one_that_was_given_up() -> None:
    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(infer_async(requests(1)[0]), 0.5)

    asyncio.run(impatient())
    with running_worker():
        assert len(list(infer_many(requests(20), timeout_s=WAIT_S))) == 20
        until(lambda: not caller_module.caller().task_ids(), what="nobody waits for the one that was given up")
        assert len(list(infer_many(requests(20), timeout_s=WAIT_S))) == 20


@pytest.mark.usefixtures("worker")
def test_a_mistake_in_listening_for_results_is_logged_and_later_calls_are_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usual, mistakes = ChunkResults.take, iter([RuntimeError("this is the mistake")])

    def take(results: ChunkResults, timeout_s: float) -> Any:
        for mistake in mistakes:
            raise mistake
        return usual(results, timeout_s)

    monkeypatch.setattr(ChunkResults, "take", take)

    assert len(list(infer_many(requests(20), timeout_s=WAIT_S))) == 20
    assert "this is the mistake" in caplog.text


@pytest.mark.parametrize("outcomes", ['{"status": "ok", "outputs": [1]}', ""], ids=["too few", "none"])
def test_a_result_that_does_not_fit_its_chunk_is_a_failure_of_each_request(
    app: Celery, redis: Redis, outcomes: str
) -> None:
    found: list[str] = []
    given = [{"model": "a", "uri": f"gs://b/{index}"} for index in range(3)]
    asking = threading.Thread(
        target=lambda: found.extend(str(a.outcome.error) for a in infer_many(given, timeout_s=WAIT_S))
    )
    asking.start()
    sent = until(lambda: redis.lindex("lowtide.a", 0))
    redis.set(
        app.backend.get_key_for_task(json.loads(sent)["headers"]["id"]),
        f'{{"status": "SUCCESS", "result": [{outcomes}]}}',
    )
    asking.join(WAIT_S)

    assert len(found) == 3
    assert all("chunk_failed" in error and "outcomes for 3 requests" in error for error in found)


@pytest.mark.usefixtures("app")
def test_what_redis_forgets_is_sent_again(redis: Redis) -> None:
    found: list[int] = []
    listener = threading.Thread(
        target=lambda: found.extend(a.index for a in infer_many(requests(200), timeout_s=WAIT_S))
    )
    listener.start()
    until(lambda: redis.llen("lowtide.a") + redis.llen("lowtide.b") >= 4)
    redis.flushall()
    with running_worker():
        listener.join(WAIT_S)

    assert sorted(found) == list(range(200))


def test_what_redis_forgets_before_the_first_look_for_results_is_sent_again(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, usual = threading.Event(), ChunkResults.take

    def take(results: ChunkResults, timeout_s: float) -> Any:
        looking.wait(WAIT_S)
        return usual(results, timeout_s)

    monkeypatch.setattr(ChunkResults, "take", take)
    answer = caller_module.caller().submit("lowtide.a", [InferenceRequest(model="a", uri="gs://b/1")])
    redis.flushall()
    looking.set()

    with running_worker():
        assert answer.result(WAIT_S)[0].outputs == ["a saw gs://b/1"]


def test_what_is_sent_while_redis_is_away_is_sent_when_it_is_back(tmp_path, monkeypatch) -> None:
    with EmbeddedRedis(tmp_path, port=steady_port()) as server:
        monkeypatch.setenv("LOWTIDE_REDIS_URL", server.url)
        with python(CALLING_TWICE) as program, running_worker():
            assert program.stdout.readline() == "['a saw gs://b/1']\n"
            server.stop()
            program.stdin.write("now\n")
            program.stdin.flush()
            assert program.stdout.readline() == "sent\n"
            with EmbeddedRedis(tmp_path, port=server.port):
                assert program.stdout.readline() == "['a saw gs://b/2']\n"


def test_a_redis_that_was_never_there_is_an_error(monkeypatch) -> None:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://127.0.0.1:1/0")

    with python(CALLING_TWICE) as program:
        assert any(line.startswith("Traceback") for line in program.stderr)


@pytest.mark.usefixtures("app")
def test_who_waits_in_vain_is_told_that_no_worker_is_alive_or_that_none_serves_the_model(redis: Redis) -> None:
    with pytest.raises(NotAnswered, match="200 requests .* no worker is alive, 10 tasks wait in the queues of a, b"):
        list(infer_many(requests(200), timeout_s=0.2))
    Heartbeat(redis, Keys(""), kind="worker", name="w", status=lambda: {"models": ["a"]}).beat()
    with pytest.raises(NotAnswered, match="no live worker serves b, they serve a"):
        list(infer_many(requests(200), timeout_s=0.2))
    with pytest.raises(NotAnswered, match="1 worker is alive, "):
        list(infer_many([{"model": "a", "uri": "gs://b/1"}], timeout_s=0.2))


@pytest.mark.usefixtures("app")
def test_chunks_are_as_large_as_the_fleet_s_rates_allow(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    served._served_of.cache_clear()
    redis.hset(Keys("").rates, mapping={"a": 0.05})  # as `RateTeller` writes it
    with pytest.raises(NotAnswered):
        list(infer_many([{"model": "a", "uri": "gs://b/1"}] * 20, timeout_s=0.2))

    assert redis.llen("lowtide.a") == 10


@pytest.mark.usefixtures("app")
def test_who_waits_without_a_bound_is_told_once_in_the_log_why_nothing_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caller = Caller(load_settings(), quiet_s=0.1)
    caller.submit("lowtide.a", [InferenceRequest(model="a", uri="gs://b/1")] * 20)
    until(lambda: "no answer" in caplog.text)
    time.sleep(2 * caller_module.TAKE_S)
    caller.close()

    said = [record.getMessage() for record in caplog.records if "no answer" in record.getMessage()]
    assert len(said) == 1
    assert "20 requests wait: no worker is alive" in said[0]


def gives_up_in_time() -> None:
    with pytest.raises(NotAnswered):
        list(infer_many(requests(200), timeout_s=0.1))


def closes() -> None:
    answers = infer_many(requests(200), timeout_s=10)
    answers._send()
    answers.close()
    assert next(answers, None) is None


def drops() -> None:
    infer_many(requests(200), timeout_s=10)._send()


def cancels() -> None:
    async def call() -> None:
        calls = [asyncio.create_task(infer_async(request)) for request in requests(4)]
        await asyncio.sleep(0)  # their threads send
        for one in calls:
            one.cancel()
        await asyncio.wait(calls)

    asyncio.run(call())


def is_interrupted() -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    answers = infer_many(requests(200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChunkSender, "send", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(answers)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("leave", [gives_up_in_time, closes, drops, cancels, is_interrupted])
def test_what_nobody_waits_for_any_more_is_forgotten_and_so_never_sent_again(leave: Callable[[], None]) -> None:
    leave()

    until(lambda: caller_module.caller().task_ids() == [], what="nothing is waited for")


@pytest.mark.usefixtures("app")
def test_single_tasks_that_redis_loses_are_sent_again(redis: Redis) -> None:
    caller = Caller(load_settings(), looks=Looks(old_s=0.1, gone_s=0.05, every_s=0.1, seldom_s=0.1))
    given = [InferenceRequest.parse(request) for request in requests(4)]
    answers = [caller.submit(f"lowtide.{request.model}", [request]) for request in given]
    redis.delete("lowtide.a")
    with running_worker():
        found = [answer.result(WAIT_S)[0].outputs for answer in answers]
    caller.close()

    assert found == [[f"{request.model} saw {request.uri}"] for request in given]


CONTENT = {"model": "a", "data": base64.b64encode(os.urandom(60_000)).decode()}


def test_content_in_a_task_is_written_in_base64_once(app: Celery, redis: Redis) -> None:
    infer.delay(CONTENT)
    raw = redis.lindex("lowtide.a", 0)

    assert CONTENT["data"].encode() in raw
    assert len(raw) < 1.36 * 60_000


@pytest.mark.usefixtures("app")
def test_content_that_a_live_caller_keeps_is_beside_the_task_as_it_is(redis: Redis) -> None:
    with pytest.raises(NotAnswered):
        list(infer_many([CONTENT, CONTENT], timeout_s=0.1))
    [key] = redis.scan_iter("lt2:blob:*")
    assert redis.get(key) == 2 * base64.b64decode(CONTENT["data"])
    assert 500 < redis.ttl(key) <= 600
    assert len(redis.lindex("lowtide.a", 0)) < 1500

    with running_worker():
        assert [answer.outputs for answer in infer_many([CONTENT])] == [["a saw None"]]
    until(lambda: list(redis.scan_iter("lt2:blob:*")) in ([], [key]))  # that of the one that gave up expires


@pytest.mark.usefixtures("app")
def test_content_that_redis_loses_is_sent_again_and_the_caller_does_not_get_to_know(redis: Redis) -> None:
    async def some() -> list[list[Any]]:
        return await asyncio.gather(*(infer_async(CONTENT) for _ in range(3)))

    found: list[Any] = []
    asking = [
        threading.Thread(target=lambda: found.extend(answer.outputs for answer in infer_many([CONTENT] * 50))),
        threading.Thread(target=lambda: found.extend(asyncio.run(some()))),
    ]
    for thread in asking:
        thread.start()
    until(lambda: redis.llen("lowtide.a") == 3 + 1)
    redis.delete(*redis.scan_iter("lt2:blob:*"))
    with running_worker():
        for thread in asking:
            thread.join(WAIT_S)

    assert found == [["a saw None"]] * 53


@pytest.mark.usefixtures("app")
def test_content_that_waits_for_workers_is_renewed(redis: Redis) -> None:
    caller = Caller(load_settings(), looks=replace(caller_module.LOOKS, renew_s=0.1))
    caller.submit("lowtide.a", [InferenceRequest.parse(CONTENT)])
    [key] = redis.scan_iter("lt2:blob:*")
    redis.expire(key, 60)
    until(lambda: redis.ttl(key) > 60)
    caller.close()


def test_settings_that_are_given_anew_hold_for_the_next_task(app: Celery, redis: Redis) -> None:
    for prefix in ("one:", "two:"):
        configure(load_settings(prefix=prefix))
        infer.delay({"model": "a", "uri": "gs://b/1"})
        assert redis.llen(Keys(prefix).queue("lowtide.a")) == 1

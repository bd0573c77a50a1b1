import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from unittest.mock import MagicMock

import pytest
from celery import Celery, Signature, signature
from celery.exceptions import Ignore, Reject
from redis import RedisError

from lowtide.tasks import InvalidRequest, Outcome, RequestFailed, infer, infer_chunk, port
from lowtide.tasks.errors import EngineStopped
from lowtide.tasks.infer import ChunksWithQueue, Outcomes, describe
from lowtide.tasks.queues import WIRE_VERSION_HEADER
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.running import ownership
from lowtide.tasks.stub import StubEngine

REQUEST = {"model": "m", "uri": "a"}


def outputs_of(request: object) -> list[str]:
    if request.uri == "bad":
        raise ValueError("no good")
    return [request.uri]


@pytest.fixture(autouse=True)
def engine() -> Iterator[None]:
    port.plug(StubEngine(outputs_of))
    yield
    port.plug(None)


def test_importing_the_tasks_brings_neither_torch_nor_google_nor_a_current_app() -> None:
    code = """
import sys, lowtide.tasks, celery, kombu.transport.redis as redis
heavy = {"torch", "torchvision", "google.cloud", "grpc", "PIL"} & set(sys.modules)
assert not heavy, heavy
assert redis.Transport.Channel is redis.Channel
assert celery.current_app.main != "lowtide"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_request_gives_its_outputs() -> None:
    assert infer({"model": "m", "uri": "good"}) == ["good"]


def test_a_failed_request_raises_with_its_reason() -> None:
    with pytest.raises(RequestFailed, match="ValueError: no good"):
        infer({"model": "m", "uri": "bad"})


def test_one_bad_request_of_a_chunk_fails_alone() -> None:
    outcomes = list(infer_chunk([{"model": "m", "uri": "a"}, {"uri": "a"}, {"model": "m", "uri": "bad"}]))

    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "failed"]
    assert str(outcomes[1].error.message) == "model: is missing"


class Backend:
    """What the tasks ask of Celery's result backend, and of the Redis behind it, which has no content."""

    def __init__(self, *, stored: Any = None, error: Exception | None = None, refuses: Exception | None = None) -> None:
        self.client = self
        self.stored = stored
        self.error = error
        self.refuses = refuses
        self.told: list[str] = []

    def get_task_meta(self, task_id: str, *, cache: bool) -> dict[str, Any]:
        return {"status": "SUCCESS", "result": self.stored}

    def pipeline(self, *, transaction: bool) -> Any:
        """Nothing befell the task before."""
        pipe = MagicMock()
        pipe.__enter__.return_value.execute.return_value = (None, {}, {})
        return pipe

    def get(self, key: str) -> None:
        if self.error:
            raise self.error

    def register_script(self, text: str) -> Callable[..., None]:
        return self.tell

    def tell(self, keys: list[str], args: list[Any]) -> None:
        if self.refuses:
            raise self.refuses
        self.told += keys


@pytest.fixture
def backend() -> Iterator[Callable[..., Backend]]:
    """Gives `infer_chunk` one."""

    def make(**options: Any) -> Backend:
        infer_chunk.backend = made = Backend(**options)
        return made

    yield make
    infer_chunk.backend = None  # the app's


def run_chunk(requests: list[dict[str, Any]], **request: Any) -> Any:
    infer_chunk.push_request(id="t", **request)
    try:
        return infer_chunk.run(requests)
    finally:
        infer_chunk.pop_request()


@pytest.mark.parametrize(
    ("stored", "outputs"), [([{"status": "ok", "outputs": [7]}], [7]), ([{"status": "of a newer release"}], ["a"])]
)
def test_a_result_that_is_there_is_given_again_if_it_can_be_read(
    backend: Callable[..., Backend], stored: list[dict[str, Any]], outputs: list[Any]
) -> None:
    backend(stored=stored)
    outcomes = run_chunk([REQUEST], delivery_info={"redelivered": True})
    assert [outcome.outputs for outcome in outcomes] == [outputs]


BESIDE = {"model": "m", "blob": [0, 1]}
KEEPS_CONTENT = {WIRE_VERSION_HEADER: 3}


def test_a_chunk_without_its_content_is_for_its_sender_to_send_again(backend: Callable[..., Backend]) -> None:
    asked = backend()
    with pytest.raises(Ignore):
        run_chunk([BESIDE, REQUEST], **KEEPS_CONTENT)

    assert asked.told == [Keys("").result("t"), Keys("").blob("t")]


@pytest.mark.parametrize("failure", [{"error": RedisError("away")}, {"refuses": RedisError("full")}])
def test_a_redis_that_cannot_be_asked_for_content_or_told_that_it_is_gone_hands_the_task_back(
    backend: Callable[..., Backend], monkeypatch: pytest.MonkeyPatch, failure: dict[str, Exception]
) -> None:
    monkeypatch.setattr(infer_chunk, "pause_s", 0.0)
    backend(**failure)
    with pytest.raises(Reject) as caught:
        run_chunk([BESIDE], **KEEPS_CONTENT)

    assert caught.value.requeue


def test_who_keeps_no_content_asks_for_a_field_that_is_unknown() -> None:
    outcomes = list(infer_chunk([BESIDE, REQUEST]))
    assert [outcome.status for outcome in outcomes] == ["failed", "ok"]
    assert "blob: is not a field of a request" in outcomes[0].error.message


def test_a_lone_request_has_no_content_beside_it() -> None:
    with pytest.raises(RequestFailed, match="blob: is not a field of a request"):
        infer(BESIDE)


def test_a_stopping_engine_hands_the_whole_task_back() -> None:
    class Stopping(StubEngine):
        def submit(self, requests: object) -> list[Future[Outcome]]:
            future: Future[Outcome] = Future()
            future.set_exception(EngineStopped("draining"))
            return [future]

    port.plug(Stopping(outputs_of))
    with pytest.raises(Reject) as caught:
        infer_chunk([{"model": "m", "uri": "a"}])

    assert caught.value.requeue


def test_without_an_engine_the_error_says_where_tasks_run() -> None:
    port.plug(None)
    with pytest.raises(port.NoEngine, match="lowtide worker"):
        infer({"model": "m", "uri": "good"})


def test_an_invalid_call_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidRequest, match="^model: is missing"):
        infer.delay({"uri": "a"})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: infer.delay(REQUEST, priority="high"), "takes one argument, request; options go to apply_async"),
        (lambda: infer.delay(**REQUEST), "takes one argument, request"),
        (lambda: infer.delay(uri="a"), "takes one argument, request"),
        (lambda: infer_chunk.delay(request=[REQUEST]), "takes one argument, requests"),
        (lambda: infer.apply_async(REQUEST), r"arguments are a list: apply_async\(\[request\]\)"),
        (lambda: infer.apply_async([REQUEST], serializer="pickle"), "tasks are JSON"),
    ],
)
def test_an_argument_that_would_be_left_out_is_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        call()


@pytest.mark.parametrize("given", [None, 7, "digits", {"model": "m", "uri": "a"}])
def test_a_chunk_that_is_no_list_is_one_failure(given: Any) -> None:
    with pytest.raises(RequestFailed, match="lowtide.infer_chunk takes a list of requests, lowtide.infer one"):
        infer_chunk(given)


@pytest.mark.parametrize(
    "made", [infer.map(iter([REQUEST] * 3)), infer.starmap([(REQUEST,)] * 3), infer.chunks([(REQUEST,)] * 3, 2)]
)
def test_a_map_goes_to_its_models_queue_whoever_sends_it(made: Signature) -> None:
    mine = Celery("mine", set_as_current=False)
    sent = []
    for task in ("celery.map", "celery.starmap"):
        mine.tasks[task].apply_async = lambda args, kwargs, **options: sent.append(
            (len(kwargs["it"]), options["queue"])
        )

    for each in made.group().tasks if isinstance(made, ChunksWithQueue) else [made]:
        signature(json.loads(json.dumps(each)), app=mine).apply_async()

    assert {queue for _, queue in sent} == {"lowtide.m"}
    assert sum(count for count, _ in sent) == 3
    assert made.options["queue"] == "lowtide.m"


def test_flower_is_told_counts_not_content() -> None:
    failed = Outcome.failed("x", "y")

    assert describe([{"model": "digits", "data": "A" * 100}] * 64) == "digits × 64"
    assert repr(Outcomes([Outcome(status="ok")] * 63 + [failed])) == "63 ok, 1 failed"


def test_a_task_that_was_given_to_another_while_it_waited_here_does_not_begin() -> None:
    ownership.decide_by(lambda delivery: delivery == "2/a")
    try:
        with pytest.raises(Ignore):
            run_chunk([REQUEST], properties={"delivery_tag": "1/a"})
    finally:
        ownership.decide_by(None)

import base64
import json
import logging
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from redis import Redis

from lowtide.bridge.bridge import Bridge
from lowtide.bridge.held.record_watch import RecordWatch
from lowtide.bridge.held.records import Records
from lowtide.bridge.pubsub.client import Pubsub, PullRequest, PullResponse, message_of
from lowtide.bridge.pubsub.create import Admin, PubsubMissing, check_exists, create_missing, prepare
from lowtide.bridge.waits import USUAL, Waits
from lowtide.config import Settings, load_settings
from lowtide.local.cloud import CloudServer
from lowtide.local.process import ChildProcess, free_port
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks import port
from lowtide.tasks.app import configure
from lowtide.tasks.chunks.dispatch import Looks
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.queues import worker_queues
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.workers.consumer.results import install
from tests.ports import steady_port
from tests.waiting import PATIENCE_S, until

RESULTS, DEAD = "lowtide-results", "lowtide-dead-letters"

# Celery 5.7 stores results with a command that redis-py 8.1 calls deprecated; as an error it would fail the storing.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


class Engine:
    """Answers as `answer` says, after `delay_s`, while it `goes`. Remembers what it saw."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.goes = threading.Event()
        self.goes.set()
        self.seen: Counter[str] = Counter()
        self.answer: Callable[[InferenceRequest], Outcome] = lambda request: Outcome(
            status=Status.OK, model_version="v1", outputs=[f"{request.model} saw {request.uri}"]
        )

    def submit(self, requests: Any) -> list[Future[Outcome]]:
        self.seen.update(request.uri or "inline" for request in requests)
        time.sleep(self.delay_s)
        self.goes.wait()
        futures = []
        for request in requests:
            futures.append(future := Future[Outcome]())
            future.set_result(self.answer(request))
        return futures

    def seconds_per_request(self, model: str) -> float:
        return 0.001


class World:
    """Both ends of Pub/Sub, and Redis, as a test sees them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pubsub = Pubsub()
        self._pull = self.pubsub.method("Subscriber/Pull", PullRequest, PullResponse)
        self.redis = Redis.from_url(settings.redis_url)
        self.keys = Keys.of(settings)
        self.engine = Engine()
        self.requests = settings.subscription_path(settings.subscription[-1])

    def publish(self, *messages: Mapping[str, Any] | bytes | tuple[bytes, dict[str, str]]) -> list[str]:
        pbs = []
        for message in messages:
            data, attributes = message if isinstance(message, tuple) else (message, {})
            body = json.dumps(data).encode() if isinstance(data, Mapping) else data
            pbs.append(message_of(body, {"x-n": str(len(pbs)), **attributes}))
        topic = self.settings.topic_path(self.settings.topic)
        return [
            message_id
            for start in range(0, len(pbs), 500)
            for message_id in self.pubsub.publish(topic, pbs[start : start + 500])
        ]

    def take(self, name: str, count: int, *, extra_s: float = 0.0) -> list[Any]:
        """At least `count` messages of a subscription, and whatever else comes within `extra_s`."""
        found: list[Any] = []
        deadline_s = time.monotonic() + PATIENCE_S
        while len(found) < count and time.monotonic() < deadline_s:
            found += self.pull(name)
        assert len(found) >= count, f"{len(found)} of {count} messages on {name}"
        until_s = time.monotonic() + extra_s
        while time.monotonic() < until_s:
            found += self.pull(name)
        return found

    def pull(self, name: str) -> list[Any]:
        """What is there now. A pull that waits would lease what comes at its deadline to nobody."""
        subscription = self.settings.subscription_path(name)
        request = PullRequest(subscription=subscription, max_messages=1000, return_immediately=True)
        received = self._pull(request, timeout=10).received_messages
        self.pubsub.acknowledge(subscription, [one.ack_id for one in received])
        time.sleep(0 if received else 0.05)
        return [one.message for one in received]

    def results(self, count: int, *, extra_s: float = 0.0) -> list[dict[str, Any]]:
        return [json.loads(message.data) for message in self.take(RESULTS, count, extra_s=extra_s)]

    def nothing_left(self) -> bool:
        return not [message for _ in range(5) for message in self.pull(self.settings.subscription[-1])]

    def end_key(self, message_id: str) -> str:
        return self.keys.end(f"{self.requests}:{message_id}")

    @contextmanager
    def bridge(self, waits: Waits = USUAL, *, fails: bool = False) -> Iterator[Bridge]:
        """A bridge that drains at the end, and must end well; or one that fails, and ends by itself."""
        bridge, codes = Bridge(self.settings, waits=waits), []
        thread = threading.Thread(target=lambda: codes.append(bridge.run()))
        with pytest.MonkeyPatch.context() as patch:
            # One that a slow machine makes late would end this process, and all that runs here.
            patch.setattr("lowtide.bridge.bridge.leave_after", lambda after_s, code: threading.Timer(after_s, print))
            thread.start()
            try:
                yield bridge
            finally:
                if fails:
                    thread.join(PATIENCE_S)
                bridge.stop()
                thread.join(PATIENCE_S)
        assert codes == [int(fails)]

    @contextmanager
    def worker(self) -> Iterator[None]:
        port.plug(self.engine)
        heartbeat = Heartbeat(self.redis, self.keys, kind="worker", name="w", status=dict)
        heartbeat.start()
        queues = ",".join(worker_queues(self.settings.model_names))
        app = configure(self.settings)
        install(app)
        try:
            # Celery's own default would leave the root logger at ERROR, for every test that follows.
            with start_worker(
                app, pool="threads", concurrency=4, perform_ping_check=False, queues=queues, loglevel="warning"
            ):
                yield
        finally:
            heartbeat.stop()
            port.plug(None)
            del app.loader.override_backends  # other tests of this process store no results
            configure(self.settings)

    def close(self) -> None:
        self.pubsub.close()
        self.redis.close()


def make_world(redis_url: str, project: str, **fields: Any) -> World:
    given = {"models": "a,b", "reply_topics": "other-replies", **fields}
    settings = load_settings(redis_url=redis_url, project=project, **given)
    create_missing(settings)
    return World(settings)


@pytest.fixture
def world(redis_url: str, pubsub_host: str, project: str) -> Iterator[World]:
    made = make_world(redis_url, project)
    yield made
    made.close()


@pytest.fixture
def our_world_of(
    redis_url: str, local_pubsub: Any, project: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    """For what does not depend on Pub/Sub's ways, with settings of its own."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", local_pubsub.host)
    with ExitStack() as stack:
        yield lambda **fields: stack.enter_context(closing(make_world(redis_url, project, **fields)))


@pytest.fixture
def our_world(our_world_of: Callable[..., World]) -> World:
    return our_world_of()


def uris(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"model": "ab"[index % 2], "uri": f"gs://b/{index}", **fields} for index in range(count)]


def test_each_request_gets_one_result_and_is_acknowledged(world: World) -> None:
    published = world.publish(*uris(600))
    with world.worker(), world.bridge():
        results = world.results(600, extra_s=1.0)
        world.publish((b"\xff\xd8 jpeg", {"model": "a", "x-run": "7", "request_id": "mine"}))
        inline = world.take(RESULTS, 1)[0]

    assert sorted(result["message_id"] for result in results) == sorted(published)
    assert {result["status"] for result in results} == {"ok"}
    assert {tuple(result["outputs"]) for result in results} == {
        (f"{request['model']} saw {request['uri']}",) for request in uris(600)
    }
    assert dict(inline.attributes) == {
        "request_id": "mine",
        "message_id": json.loads(inline.data)["message_id"],
        "model": "a",
        "status": "ok",
        "x-n": "0",
        "x-run": "7",
    }
    assert world.nothing_left()
    assert 0 < world.redis.ttl(world.end_key(published[0])) <= 600
    assert not list(world.redis.scan_iter("celery-task-meta-*"))


def test_what_can_never_have_a_result_becomes_a_dead_letter(world: World) -> None:
    many = {f"n{index}": "v" for index in range(99)}
    bad: dict[str, Any] = {
        "malformed_json": b'{"model": "a", ',
        "no_model": b"\xff\xd8 jpeg",
        "unknown_model": {"model": "c", "uri": "gs://b/c"},
        "reply_topic_not_allowed": {"model": "a", "uri": "gs://b/c", "reply_topic": "forbidden"},
        "unsupported_event": (b"{}", {"eventType": "OBJECT_RENAME", "bucketId": "b", "objectId": "o"}),
        "invalid_request": (b'{"model": "a", "url": "gs://b/c"}', many),
    }
    late = {"model": "a", "uri": "gs://b/1", "expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}
    with world.bridge():
        world.publish(*bad.values())
        world.publish(b'["' + b"x" * 9_900_000)
        letters = world.take(DEAD, len(bad) + 1)
        world.publish(late)
        expired = world.results(1)

    assert Counter(letter.attributes["lowtide_reason"] for letter in letters) == Counter([*bad, "malformed_json"])
    by_reason = {letter.attributes["lowtide_reason"]: letter for letter in letters if len(letter.data) < 100}
    assert by_reason["no_model"].data == b"\xff\xd8 jpeg"
    assert by_reason["invalid_request"].attributes["lowtide_error"].startswith("url: ")
    assert len(by_reason["invalid_request"].attributes) == 100
    assert max(len(letter.data) for letter in letters) == 9_900_002
    assert (expired[0]["status"], world.engine.seen) == ("expired", Counter())
    assert world.nothing_left()


def test_an_event_that_is_no_upload_ends_without_a_message(our_world: World) -> None:
    world = our_world
    notice = {"bucketId": "b", "objectId": "o"}
    with world.worker(), world.bridge() as bridge:
        deleted, folder = world.publish(
            (b"{}", {**notice, "eventType": "OBJECT_DELETE"}),
            (b"", {**notice, "eventType": "OBJECT_FINALIZE", "objectId": "o/"}),
        )
        world.publish({"model": "a", "uri": "gs://b/o"})
        results = world.results(1)
        until(lambda: bridge.health().details["ignored"] == {"deleted": 1, "folder": 1})

    assert [result["object"]["name"] for result in results] == ["o"]
    assert all(world.redis.get(world.end_key(message)) == b"done" for message in (deleted, folder))
    assert world.nothing_left()
    assert world.pull(DEAD) == []


def test_params_that_cannot_be_sent_harm_no_neighbour_and_no_bridge(our_world: World) -> None:
    world = our_world
    deep = b'{"model":"a","uri":"gs://b/deep","params":{"k":' + b"[" * 300 + b"]" * 300 + b"}}"
    half = b'{"model":"a","uri":"gs://b/half","params":{"k":{"\\ud800":1}}}'
    published = world.publish(*uris(5), deep, half, *uris(5))
    with world.worker(), world.bridge():
        results = world.results(10, extra_s=0.5)
        letters = world.take(DEAD, 2)

    assert {result["message_id"] for result in results} == {*published[:5], *published[7:]}
    assert {letter.data for letter in letters} == {deep, half}
    assert {letter.attributes["lowtide_reason"] for letter in letters} == {"invalid_request"}


def test_a_copy_of_a_message_that_is_done_is_acknowledged_and_not_published(world: World) -> None:
    done, fresh = world.publish(*uris(2))
    world.redis.set(world.end_key(done), "done", ex=600)
    with world.worker(), world.bridge():
        results = world.results(1, extra_s=1.0)

    assert [result["message_id"] for result in results] == [fresh]
    assert world.nothing_left()


def test_a_copy_that_waits_while_its_twin_is_settled_keeps_the_record(our_world: World) -> None:
    world = our_world
    records = Records(world.redis, world.keys, bridge="b")
    done, claimed, open_ = (world.end_key(name) for name in ("done", "claimed", "open"))
    records.acknowledged([f"{world.requests}:done"])
    records.claim([f"{world.requests}:claimed"])
    assert 0 < world.redis.ttl(done) <= 600

    records.keep([f"{world.requests}:{name}" for name in ("done", "claimed", "open")])

    assert world.redis.ttl(done) > 6 * 24 * 3600
    assert 0 < world.redis.ttl(claimed) <= 30
    assert not world.redis.exists(open_)


def test_what_another_bridge_settles_is_left_to_it(world: World) -> None:
    claimed, fresh = world.publish(*uris(2))
    world.redis.set(world.end_key(claimed), "c:another", ex=30)
    with world.worker(), world.bridge(Waits(anothers_s=1.0)):
        assert [result["message_id"] for result in world.results(1, extra_s=1.5)] == [fresh]
        world.redis.delete(world.end_key(claimed))
        assert [result["message_id"] for result in world.results(1)] == [claimed]


def test_a_claim_that_is_lost_meanwhile_is_respected(our_world: World) -> None:
    """The record changes hands after the look-up: B5, not B2, must see it."""
    world = our_world
    world.engine.goes.clear()
    claimed, fresh = world.publish(*uris(2))
    with world.worker(), world.bridge():
        until(lambda: world.engine.seen)
        world.redis.set(world.end_key(claimed), "c:another", ex=30)
        world.engine.goes.set()
        assert [result["message_id"] for result in world.results(1, extra_s=1.0)] == [fresh]


def test_a_stop_settles_what_runs_and_hands_back_the_rest(world: World) -> None:
    published = world.publish(*uris(40))
    with world.bridge() as first:  # without a worker
        until(lambda: first.health().details["held"])
        began_s = time.monotonic()
    assert time.monotonic() - began_s < world.settings.grace_s

    world.redis.delete(*(world.keys.queue(f"lowtide.{model}.topic") for model in "ab"))
    world.engine.delay_s = 0.5
    with world.worker():
        with world.bridge() as second:
            until(lambda: second.health().details["held"])
        assert second.health().details["leased"] == 0
        with world.bridge():
            results = world.results(40, extra_s=0.5)

    assert sorted(result["message_id"] for result in results) == sorted(published)


def test_a_stop_with_several_pulls_under_way_hands_back_what_they_bring(our_world: World) -> None:
    world = our_world  # Google's emulator leases to a pull that was cut off, for 30 s
    for number in range(20):
        Heartbeat(world.redis, world.keys, kind="worker", name=f"w{number}", status=dict).beat()
    with world.bridge() as bridge:
        [source] = bridge._parts.pulls._sources
        published = world.publish(*uris(100))
        until(lambda: len(source.pulls) >= 4)
        published += world.publish(*uris(100))
        world.redis.delete(world.keys.workers)  # else it waits for them

    taken = world.take(world.settings.subscription[-1], 200)
    assert sorted(message.message_id for message in taken) == sorted(published)


def test_a_stop_does_not_wait_for_workers_that_are_gone(our_world_of: Callable[..., World]) -> None:
    world = our_world_of(grace_s=600.0)
    heartbeat = Heartbeat(world.redis, world.keys, kind="worker", name="w", status=dict)
    heartbeat.start()
    world.publish(uris(1)[0])
    with world.bridge() as bridge:
        until(lambda: bridge.health().details["leased"] == 1)
        bridge.stop()
        time.sleep(1.0)
        assert bridge.health().details["leased"] == 1, "a worker lives, and has a chunk"
        heartbeat.stop()
    assert world.pull(world.settings.subscription[-1]), "handed back"


def test_what_redis_loses_while_a_bridge_drains_is_sent_again(
    our_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world = our_world
    caplog.set_level(logging.INFO)
    Heartbeat(world.redis, world.keys, kind="worker", name="w", status=dict).beat()
    published = world.publish(*uris(20))
    with world.bridge() as bridge:
        until(lambda: bridge.health().details["held"] == 20)
        bridge.stop()
        until(lambda: "drains: 20 messages held" in caplog.text)
        world.redis.flushall()
        Heartbeat(world.redis, world.keys, kind="worker", name="w", status=dict).beat()  # it goes on waiting
        with world.worker():
            results = world.results(20)

    assert sorted(result["message_id"] for result in results) == sorted(published)


def test_while_a_puller_is_slow_to_stop_nobody_sends_again_beside_it(
    our_world_of: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = our_world_of(grace_s=60.0)
    hangs, goes = threading.Event(), threading.Event()
    looks: list[bool] = []
    beside: list[bool] = []

    def pull() -> None:
        hangs.set()
        goes.wait()

    def something_may_come() -> bool:
        looks.append(True)
        return not beside

    with world.bridge() as bridge:
        puller = bridge._puller
        monkeypatch.setattr(bridge._parts.puller, "_pull", pull)
        monkeypatch.setattr(bridge._parts.dispatch, "send_again", lambda: beside.append(not puller.stop(0.0)))
        monkeypatch.setattr(bridge, "_something_may_come", something_may_come)
        assert hangs.wait(PATIENCE_S)
        with monkeypatch.context() as patch:
            patch.setattr("lowtide.bridge.bridge.JOIN_S", 0.1)
            bridge.stop()
            until(lambda: beside or len(looks) > 2, what="a drain that goes on")
        goes.set()
        until(lambda: beside, what="who sends again in the end")

    assert not any(beside)


def test_sigterm_ends_the_process_in_order(our_world: World) -> None:
    environment = our_world.settings.environment()
    program = "import sys; from lowtide.bridge.bridge import Bridge; from lowtide.config import load_settings; "
    with subprocess.Popen(
        [sys.executable, "-c", f"{program} sys.exit(Bridge(load_settings()).run())"],
        env={**environment, "PUBSUB_EMULATOR_HOST": _host(), "PATH": ""},
    ) as process:
        until(lambda: our_world.redis.zcard(our_world.keys.bridges))
        our_world.publish(*uris(3))
        until(lambda: our_world.redis.llen("lowtide.a.topic"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert len(our_world.take(our_world.settings.subscription[-1], 3)) == 3


def test_a_thread_that_hangs_ends_the_process_with_an_error_and_what_each_thread_does(our_world: World) -> None:
    program = """
import sys, time
from lowtide.bridge.acknowledge import Acknowledger
from lowtide.bridge.bridge import Bridge
from lowtide.config import load_settings

def hang_for_ever(*_):
    time.sleep(3600)

Acknowledger.turn = hang_for_ever
sys.exit(Bridge(load_settings()).run())
"""
    environment = {**our_world.settings.environment(), "PUBSUB_EMULATOR_HOST": _host(), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "LOWTIDE_STUCK_AFTER_S": "3"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert "no progress of acknowledger for 3 s" in done.stderr
    assert "in hang_for_ever" in done.stderr
    assert "puller:" in done.stderr


def _host() -> str:
    import os

    return os.environ["PUBSUB_EMULATOR_HOST"]


def test_an_emptied_redis_costs_nothing(our_world: World) -> None:
    world = our_world
    published = world.publish(*uris(100))
    with world.bridge():
        until(lambda: world.redis.llen(world.keys.queue("lowtide.a.topic")))
        world.redis.flushall()
        with world.worker():
            results = world.results(100, extra_s=1.0)

    assert sorted(result["message_id"] for result in results) == sorted(published)


def test_a_chunk_that_is_nowhere_is_sent_again(our_world: World) -> None:
    """Its queue was purged, for example."""
    world = our_world
    published = world.publish(*uris(20))
    with world.bridge(Waits(looks=Looks(old_s=0.1, gone_s=0.1, every_s=0.1))):
        until(lambda: world.redis.delete(world.keys.queue("lowtide.a.topic")))
        with world.worker():
            results = world.results(20)

    assert sorted(result["message_id"] for result in results) == sorted(published)
    assert set(world.engine.seen.values()) == {1}


def inline(count: int) -> list[dict[str, Any] | tuple[bytes, dict[str, str]]]:
    """Raw, and in JSON."""
    contents = [f"content {index}".encode() * 1000 for index in range(count)]
    return [
        (content, {"model": "a"}) if index % 2 else {"model": "a", "data": base64.b64encode(content).decode()}
        for index, content in enumerate(contents)
    ]


def says_content(request: InferenceRequest) -> Outcome:
    return Outcome(status=Status.OK, model_version="v1", outputs=[request.content().decode()])


def blobs(world: World) -> list[bytes]:
    return list(world.redis.scan_iter(world.keys.blob("*")))


def test_content_lies_beside_its_task_until_the_result_is_settled(our_world: World) -> None:
    world = our_world
    world.engine.answer = says_content
    world.publish(*inline(40))
    with world.bridge() as bridge:
        until(lambda: blobs(world))
        [task] = world.redis.lrange(world.keys.queue("lowtide.a.topic"), 0, -1)
        [key] = blobs(world)
        assert len(task) < 400 * 40
        assert world.redis.strlen(key) == bridge.health().details["content_bytes"]
        assert 500 < world.redis.ttl(key) <= 600
        with world.worker():
            results = world.results(40)
            until(lambda: not blobs(world) and not bridge.health().details["content_bytes"])

    assert sorted(result["outputs"][0] for result in results) == sorted(
        f"content {index}" * 1000 for index in range(40)
    )


def test_a_bridge_that_drains_leaves_no_content(our_world: World) -> None:
    our_world.publish(*inline(20))
    with our_world.bridge():
        until(lambda: blobs(our_world))
    assert not list(our_world.redis.scan_iter("*blob*"))


def test_a_bridge_that_fails_leaves_no_content(our_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(watch: RecordWatch) -> None:
        until(lambda: blobs(our_world))
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(RecordWatch, "turn", fail)
    our_world.publish(*inline(20))
    with our_world.bridge(fails=True):
        pass
    assert not list(our_world.redis.scan_iter("*blob*"))


def test_content_that_redis_loses_is_sent_again_and_nobody_gets_to_know(world: World) -> None:
    world.engine.answer = says_content
    published = world.publish(*inline(40), *uris(10))
    with world.bridge():
        until(lambda: blobs(world))
        world.redis.delete(*blobs(world))
        world.engine.answer = lambda request: says_content(request) if request.uri is None else Outcome(status="ok")
        with world.worker():
            results = world.results(50, extra_s=1.0)

    assert sorted(result["message_id"] for result in results) == sorted(published)
    assert {(result["status"], result["attempts"]) for result in results} == {("ok", 1)}
    assert {output for result in results for output in result["outputs"]} == {
        f"content {index}" * 1000 for index in range(40)
    }
    assert world.nothing_left()


def test_content_of_an_emptied_redis_costs_nothing(our_world: World) -> None:
    world = our_world
    world.engine.answer = says_content
    published = world.publish(*inline(40))
    with world.bridge():
        until(lambda: blobs(world))
        world.redis.flushall()
        with world.worker():
            results = world.results(40, extra_s=1.0)

    assert sorted(result["message_id"] for result in results) == sorted(published)
    assert {(result["status"], result["attempts"]) for result in results} == {("ok", 1)}


def test_a_request_that_another_try_may_cure_is_tried_four_times(our_world: World) -> None:
    world = our_world
    usual = world.engine.answer

    def answer(request: InferenceRequest) -> Outcome:
        if request.uri == "gs://b/0" or (request.uri == "gs://b/1" and world.engine.seen["gs://b/1"] < 2):
            return Outcome.failed("unavailable", "503", retry=True)
        return usual(request)

    world.engine.answer = answer
    world.publish(*uris(3))
    with world.worker(), world.bridge(Waits(backoffs_s=(1.0, 1.0, 1.0))):
        results = {result["request_id"]: result for result in world.results(3, extra_s=0.5)}

    ended = sorted((result["status"], result["attempts"]) for result in results.values())
    assert ended == [("failed", 4), ("ok", 1), ("ok", 2)]
    assert world.engine.seen == {"gs://b/0": 4, "gs://b/1": 2, "gs://b/2": 1}
    assert next(r["error"] for r in results.values() if r["error"]) == {"type": "unavailable", "message": "503"}


def test_a_chunk_that_fails_as_a_whole_is_tried_again(our_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = our_world
    usual, failures = world.engine.submit, iter([RuntimeError("no device")])

    def submit(requests: Any) -> Any:
        for failure in failures:
            raise failure
        return usual(requests)

    monkeypatch.setattr(world.engine, "submit", submit)
    world.publish(uris(1)[0])
    with world.worker(), world.bridge(Waits(backoffs_s=(1.0, 1.0, 1.0))):
        assert [(r["status"], r["attempts"]) for r in world.results(1)] == [("ok", 2)]


@pytest.mark.parametrize(
    "result",
    [b"{", b'{"status": "SUCCESS", "result": [{"status": "paused"}, {"status": "paused"}]}', b'{"result": []}'],
)
def test_a_result_of_another_release_is_handed_back_without_an_attempt_and_said_once(
    our_world: World, caplog: pytest.LogCaptureFixture, result: bytes
) -> None:
    world = our_world
    published = world.publish(*uris(4))
    with world.bridge(Waits(unreadable_s=1.0)) as bridge:
        queues = [world.keys.queue(f"lowtide.{model}.topic") for model in "ab"]
        until(lambda: all(world.redis.llen(queue) for queue in queues), what="a chunk of each model lies in Redis")
        tasks = [json.loads(task)["headers"]["id"] for queue in queues for task in world.redis.lrange(queue, 0, -1)]
        world.redis.delete(*queues)
        for task in tasks:
            key = world.keys.result(task)
            world.redis.set(key, result)
            world.redis.publish(key, result)
        with world.worker():
            results = world.results(4, extra_s=0.5)
            assert bridge.health().ok
        until(lambda: not list(world.redis.scan_iter(world.keys.result("*"))))

    assert sorted(result["message_id"] for result in results) == sorted(published)
    assert {(result["status"], result["attempts"]) for result in results} == {("ok", 1)}
    assert caplog.text.count("can't read a result") == 1


def test_a_request_that_kills_workers_becomes_a_dead_letter(our_world: World) -> None:
    world = our_world
    world.engine.answer = lambda request: Outcome.failed("worker_lost", "three strikes")
    world.publish(uris(1)[0])
    with world.worker(), world.bridge():
        letter = world.take(DEAD, 1)[0]

    assert letter.attributes["lowtide_reason"] == "worker_lost"
    assert json.loads(letter.data) == uris(1)[0]


def test_replies_go_where_the_request_says_or_become_dead_letters(world: World) -> None:
    admin = Admin(world.pubsub)
    other = world.settings.topic_path("other-replies")
    admin.create_subscription(world.settings.subscription_path("others"), other)
    with world.worker(), world.bridge():
        world.publish({**uris(1)[0], "reply_topic": "other-replies"})
        assert json.loads(world.take("others", 1)[0].data)["status"] == "ok"
        _delete_topic(world, other)
        world.publish({**uris(1)[0], "reply_topic": "other-replies"}, uris(2)[1])
        letter = world.take(DEAD, 1)[0]
        assert world.results(1)[0]["status"] == "ok"

    assert letter.attributes["lowtide_reason"] == "reply_refused"
    assert "NOT_FOUND" in letter.attributes["lowtide_error"]
    assert world.nothing_left()


def holds_the_letter_alone(world: World, bridge: Bridge) -> bool:
    """And pulls nothing: a pull that was asked for before ends with a message."""
    if pulls := any(one.pulls for one in bridge._parts.pulls._sources):
        world.publish(uris(1)[0])
    return not pulls and bridge.health().details["leased"] == 1


def test_a_dead_letter_topic_that_refuses_stops_the_pulling(our_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = our_world
    dead = world.settings.topic_path(DEAD)
    _delete_topic(world, dead)
    one_by_one = threading.Lock()
    with world.worker(), world.bridge() as bridge:
        usual = bridge._pubsub.publish

        def publish(topic: str, messages: Sequence[Any]) -> Sequence[str]:
            with one_by_one:
                return usual(topic, messages)

        monkeypatch.setattr(bridge._pubsub, "publish", publish)
        world.publish(b"{")
        until(lambda: not bridge.health().ok)
        assert DEAD in bridge.health().reason
        until(lambda: holds_the_letter_alone(world, bridge))
        world.publish(*uris(5))
        time.sleep(1.0)
        assert bridge.health().details["leased"] == 1
        admin = Admin(world.pubsub)
        with one_by_one:  # what is published between the two is for nobody
            admin.create_topic(dead)
            admin.create_subscription(world.settings.subscription_path("dead-again"), dead)
        assert world.take("dead-again", 1)[0].data == b"{"
        world.results(5)
        assert bridge.health().ok


def test_a_subscription_that_is_gone_ends_the_bridge_so_that_a_fresh_start_makes_it(
    our_world_of: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = our_world_of(stuck_after_s=3.0)
    with world.bridge(Waits(refused_again_s=0.1), fails=True) as bridge:
        Admin(world.pubsub).delete_subscription(world.requests)
        until(lambda: not bridge.health().ok)
        assert "lowtide-requests" in bridge.health().reason

    assert f"Pub/Sub refuses to be pulled: {world.requests}: NOT_FOUND" in caplog.text


def test_a_subscription_that_is_gone_is_told_of_while_the_others_are_served_and_served_again_when_it_is_back(
    our_world_of: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = our_world_of(subscription="urgent,lowtide-requests", stuck_after_s=3.0)
    urgent = world.settings.subscription_path("urgent")
    with world.worker(), world.bridge(Waits(refused_again_s=0.1)) as bridge:
        Admin(world.pubsub).delete_subscription(urgent)
        until(lambda: bridge.health().reason)
        time.sleep(world.settings.stuck_after_s + 1.0)
        health = bridge.health()
        world.publish(*uris(20))
        assert len(world.results(20)) == 20
        create_missing(world.settings)
        message = message_of(json.dumps(uris(1)[0]).encode(), {})
        world.pubsub.publish(world.settings.topic_path("urgent"), [message])
        assert len(world.results(1)) == 1
        until(lambda: not bridge.health().reason)

    assert health.ok, "a supervisor must not restart it"
    assert health.reason.startswith(f"Pub/Sub refuses to be pulled: {urgent}: NOT_FOUND")
    assert list(health.details["refused"]) == [urgent]
    assert caplog.text.count(f"can't pull {urgent}: trying on") == 1


def test_a_bridge_begins_when_some_subscriptions_can_be_served(
    redis_url: str, pubsub_host: str, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(redis_url, project, subscription="urgent,lowtide-requests")
    admin = Admin(world.pubsub)
    admin.delete_subscription(world.settings.subscription_path("urgent"))
    prepare(world.settings, create=False)
    assert "not every subscription can be served: not there: projects/" in caplog.text
    prepare(world.settings, create=True)
    check_exists(world.settings)

    admin.delete_subscription(world.settings.subscription_path("urgent"))
    _delete_topic(world, world.settings.topic_path(RESULTS))
    with pytest.raises(PubsubMissing, match=RESULTS):
        prepare(world.settings, create=False)
    create_missing(world.settings)
    for name in world.settings.subscription:
        admin.delete_subscription(world.settings.subscription_path(name))
    with pytest.raises(PubsubMissing, match="urgent.*lowtide-requests"):
        prepare(world.settings, create=False)
    world.close()


def test_a_subscription_that_is_made_anew_knows_nothing_of_an_earlier_ones_messages(our_world: World) -> None:
    world = our_world
    old = [world.end_key("1"), world.keys.tries(f"{world.requests}:1")]
    kept = [world.keys.end(f"{world.requests}-2:1"), world.keys.end("projects/p/subscriptions/another:1")]
    for key in (*old, *kept):
        world.redis.set(key, "done")
    create_missing(world.settings)
    assert world.redis.exists(*old) == len(old), "the subscription is there"
    Admin(world.pubsub).delete_subscription(world.requests)
    create_missing(world.settings)

    assert world.redis.exists(*old) == 0
    assert world.redis.exists(*kept) == len(kept)


def test_topics_are_made_by_a_pubsub_that_begins_to_answer_meanwhile(
    project: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port_number = steady_port()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port_number}")
    settings = load_settings(redis_url=redis_url, project=project)
    with ExitStack() as stack:
        later = threading.Timer(0.5, lambda: stack.enter_context(CloudServer(port=port_number)))
        later.start()
        create_missing(settings)
        check_exists(settings)
        later.join()


def test_topics_are_made_without_redis_too(local_pubsub: Any, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", local_pubsub.host)
    settings = load_settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", project=project)
    create_missing(settings)

    check_exists(settings)


def _delete_topic(world: World, name: str) -> None:
    from google.pubsub_v1 import types

    request = types.DeleteTopicRequest.pb()
    world.pubsub.method("Publisher/DeleteTopic", request, None)(request(topic=name))


def test_an_urgent_subscription_overtakes_a_backlog(our_world_of: Callable[..., World]) -> None:
    world = our_world_of(subscription="urgent,lowtide-requests", chunk_max_requests=10)
    world.engine.delay_s = 0.05
    world.publish(*uris(300))
    with world.worker(), world.bridge():
        before = world.results(20)
        urgent = [message_of(json.dumps({"model": "a", "uri": "gs://b/now"}).encode(), {})]
        world.pubsub.publish(world.settings.topic_path("urgent"), urgent)
        order = [result["outputs"][0] for result in world.results(301 - len(before))]

    assert "a saw gs://b/now" in order[:200]


WORKER = """
import json
from lowtide.config import load_settings
from lowtide.tasks import port
from lowtide.tasks.app import app
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.chunks.dispatch import Looks
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.queues import worker_queues
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.stub import StubEngine

settings = load_settings()
port.plug(StubEngine(lambda request: [request.uri]))
Heartbeat(connect(settings), Keys.of(settings), kind="worker", name="w", status=dict).start()
queues = ",".join(worker_queues(settings.model_names))
app.worker_main(["worker", "-P", "threads", "-c", "4", "-Q", queues])
"""


def test_redis_may_go_away_and_come_back(
    tmp_path: Path, local_pubsub: Any, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With processes of their own: Celery's app keeps the connections of the first Redis that it met."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", local_pubsub.host)
    with EmbeddedRedis(tmp_path, port=steady_port()) as server:
        world = make_world(server.url, project)
        port_number = steady_port()
        env = {**world.settings.environment(), "LOWTIDE_HEALTH_PORT": str(port_number)}
        commands = {"bridge": ["-m", "lowtide.cli", "bridge"], "worker": ["-c", WORKER]}
        processes = {
            name: ChildProcess(
                name, [sys.executable, *command], env=env, log_path=tmp_path / f"{name}.log", restart=False
            )
            for name, command in commands.items()
        }
        published = world.publish(*uris(10))
        processes["bridge"].start()
        until(lambda: any(status["held"] for status in live(world.redis, world.keys, "bridge").values()))
        server.stop()
        published += world.publish(*uris(10))
        time.sleep(2.0)
        with EmbeddedRedis(tmp_path, port=server.port):
            processes["worker"].start()
            results = world.results(20, extra_s=1.0)
            health = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port_number}/healthz", timeout=5).read())
            for process in processes.values():
                process.stop()
        world.close()

    assert health["status"] == "ok"
    assert processes["bridge"].tail(1000).count("Redis can't be used: not pulling: trying on") == 1
    assert sorted(result["message_id"] for result in results) == sorted(published)


def test_without_topics_the_bridge_says_what_makes_them(pubsub_host: str, project: str) -> None:
    settings = load_settings(project=project, models="a")
    with pytest.raises(PubsubMissing, match="lowtide-requests.*lowtide bridge --create"):
        check_exists(settings)
    create_missing(settings)
    create_missing(settings)
    check_exists(settings)

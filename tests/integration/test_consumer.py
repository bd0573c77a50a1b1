"""Worker processes with our consumer, a stock publisher, a real Redis."""

import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from lowtide.local.redis import find_redis, redis_servers
from lowtide.tasks.app import celery_config
from lowtide.tasks.queues import WIRE_VERSION_HEADER
from lowtide.tasks.wire.version import WIRE_VERSION
from tests.integration.bare_fleet import Fleet, Server, fleet_on, server_of, until

SERVERS = redis_servers()
NEWER = {WIRE_VERSION_HEADER: WIRE_VERSION + 1}
"""Headers of a task of a newer release: it is held for a while, and not started."""


@pytest.fixture(scope="module", params=sorted(SERVERS))
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(SERVERS[request.param], tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def any_fleet(any_server: Server) -> Iterator[Fleet]:
    with fleet_on(any_server) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(find_redis(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def fleet(server: Server) -> Iterator[Fleet]:
    with fleet_on(server) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker for the tests that leave it as it was."""
    executable = find_redis()
    with server_of(executable, tmp_path_factory.mktemp("redis")) as server, fleet_on(server) as fleet:
        fleet.worker(quiet_s=1)
        yield fleet


def batch(fleet: Fleet, values: list[str], *, queue: str, seconds: float = 0.0) -> None:
    """As the bridge publishes: kombu's own producer, many messages in one write."""
    message = fleet.publisher.amqp.as_task_v2(str(uuid.uuid4()), "record", ["out", "?"])
    with fleet.publisher.producer_or_acquire() as producer, producer.batch(max_size=100):
        for value in values:
            task = str(uuid.uuid4())
            producer.publish(
                (["out", value, seconds], {}, {}),
                exchange="",
                routing_key=queue,
                serializer="json",
                headers={**message.headers, "id": task, "root_id": task},
                correlation_id=task,
                retry=False,
            )


def test_a_stock_publisher_gets_everything_done_exactly_once(any_fleet: Fleet) -> None:
    any_fleet.worker(threads=8)
    sent = [str(number) for number in range(120)]
    for number in sent[:60]:
        queue = ("lowtide.m", "lowtide.m.topic", "lowtide.m.high", "other")[int(number) % 4]
        any_fleet.send("record", "out", number, queue=queue, priority=int(number) % 10)
    batch(any_fleet, sent[60:], queue="lowtide.m.topic")

    until(lambda: len(any_fleet.out()) >= len(sent))
    until(any_fleet.settled)
    assert sorted(any_fleet.out(), key=int) == sent
    assert any_fleet.given_back() == 0
    assert not [key for key in any_fleet.redis.keys("*") if key.startswith((b"lt2:", b"unacked", b"lowtide."))]


def test_an_idle_worker_starts_a_task_at_once(running: Fleet) -> None:
    time.sleep(1.2)  # its peeks have been armed again
    waited_s = []
    for queue in ("lowtide.m", "lowtide.m.topic", "other"):
        start_s = time.monotonic()
        running.send("record", "idle", queue, queue=queue)
        until(lambda expected=queue: expected in running.out("idle"))
        waited_s.append(time.monotonic() - start_s)
    assert min(waited_s) < 0.5


def test_a_worker_takes_no_more_than_it_has_room_for(fleet: Fleet) -> None:
    fleet.worker(threads=16, BARE_WORK_S="0.15")
    for number in range(10):
        fleet.send("record", "out", str(number), 1.0)
    until(lambda: len(fleet.out("started:out")) == 2)
    time.sleep(0.4)
    assert fleet.held() == 2  # 0.15 s is less than two chunks of 0.1 s, 0.3 s isn't
    until(lambda: len(fleet.out("started:out")) == 4)
    assert fleet.held() <= 4


def test_a_worker_without_room_does_not_spin(fleet: Fleet) -> None:
    process = fleet.worker(threads=1)
    for number in range(20):
        fleet.send("record", "out", str(number), 3.0, queue="lowtide.m.topic")
    until(lambda: fleet.held() == 1)
    time.sleep(1.1)  # the answers of all peeks have come

    def cpu_s() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    before_s = cpu_s()
    time.sleep(0.8)
    assert cpu_s() - before_s < 0.25
    assert fleet.held() == 1


def test_a_large_chunk_counts_for_its_requests(fleet: Fleet) -> None:
    fleet.worker(threads=16, BARE_WORK_S="0.01")
    for number in range(4):
        fleet.send("record", "out", str(number), 0.7, headers={"lowtide-n": 15})
    until(lambda: len(fleet.out("started:out")) == 2)
    time.sleep(0.2)
    assert fleet.held() == 2


def test_a_task_that_rejects_goes_back_and_is_no_loss(running: Fleet) -> None:
    before = running.given_back()
    running.send("refuse", "reject", "a")
    until(lambda: running.out("reject") == ["a"])
    until(running.settled)
    assert running.given_back() == before + 1
    assert running.out("losses:reject") == ["0"]


def test_a_finished_task_that_comes_back_is_not_run_again(running: Fleet) -> None:
    task = running.send("answer", "finished", "a")
    until(lambda: running.redis.exists(running.keys.result(task)))
    until(running.settled)
    running.redis.delete("finished")
    message = running.publisher.amqp.as_task_v2(task, "answer", ["finished", "again"])
    with running.publisher.producer_or_acquire() as producer:
        info = {"delivery_info": {"redelivered": True}}
        common = {"exchange": "", "routing_key": "lowtide.m", "headers": message.headers, "serializer": "json"}
        producer.publish(message.body, **common, **info)
    running.send("record", "finished", "after")
    until(lambda: running.out("finished") == ["after"])
    until(running.settled)


def test_a_task_that_runs_for_long_is_not_taken_away(running: Fleet) -> None:
    running.send("record", "long", "a", 2.2)
    until(lambda: running.out("long") == ["a"])
    until(running.settled)
    assert running.out("started:long") == ["a"]


def test_garbage_in_a_queue_stops_nobody(running: Fleet) -> None:
    for garbage in (b"not json", b"[1]", b"null", b'"text"', b'{"headers": {}}', b'{"properties": 5}', b"\xff\xfe"):
        running.redis.lpush(running.keys.queue("lowtide.m"), garbage)
    running.send("record", "garbage", "after")
    until(lambda: running.out("garbage") == ["after"])
    until(running.settled)
    assert running.workers[0].poll() is None


def test_what_is_not_due_waits_outside_the_worker_and_runs_once_it_is(running: Fleet) -> None:
    old = Celery("old", set_as_current=False)
    old.conf.update({**celery_config(running.settings), "task_routes": (), "task_protocol": 1})
    running.send("record", "due", "a", countdown=2)
    old.send_task("record", ("due", "first protocol"), queue="lowtide.m.topic", countdown=2)
    running.send("record", "due", "expired", countdown=2, expires=1)
    revoked = running.send("record", "due", "revoked", countdown=2)
    running.publisher.control.revoke(revoked)
    until(lambda: running.redis.zcard(running.keys.scheduled) == 4 and not running.held())
    running.send("record", "due", "now")
    until(lambda: running.out("due") == ["now"])
    until(lambda: len(running.out("due")) == 3 and not running.redis.exists(running.keys.scheduled))
    until(running.settled)
    assert set(running.out("due")) == {"now", "a", "first protocol"}
    old.close()


def test_a_queue_that_remote_control_cancelled_is_served_again(running: Fleet) -> None:
    control = running.publisher.control
    until(lambda: control.cancel_consumer("lowtide.m", reply=True), what="it is deaf")
    running.send("record", "deaf", "topic", queue="lowtide.m.topic")
    until(lambda: running.out("deaf") == ["topic"])  # the loop has turned since: that is when it cancels
    running.send("record", "deaf", "a")
    until(lambda: running.out("deaf") == ["topic", "a"])


def test_who_is_to_be_terminated_ends_by_itself(running: Fleet) -> None:
    task = running.send("record", "terminate", "a", 0.5)
    until(lambda: running.out("started:terminate"))
    running.publisher.control.revoke(task, terminate=True)
    until(lambda: running.out("terminate") == ["a"])
    until(running.settled)


def test_a_stop_gives_back_what_was_not_started_and_counts_no_loss(fleet: Fleet) -> None:
    process = fleet.worker(threads=2)
    fleet.send("record", "out", "much later", queue="lowtide.m.high", countdown=600)
    fleet.send("record", "out", "newer", queue="lowtide.m.high", headers=NEWER)
    for number in range(6):
        fleet.send("record", "out", str(number), 0.6)
    until(lambda: len(fleet.out("started:out")) == 1 and fleet.held() == 2)
    before = fleet.given_back()
    process.terminate()
    assert process.wait(10) == 0
    assert fleet.settled()
    assert fleet.given_back() > before
    waiting = [fleet.redis.llen(fleet.keys.queue(queue)) for queue in ("lowtide.m.high", "lowtide.m")]
    assert [waiting[0], len(fleet.out()) + waiting[1]] == [1, 6]
    assert fleet.redis.zcard(fleet.keys.scheduled) == 1
    assert fleet.losses() == 0


def test_what_was_not_started_when_the_connection_broke_goes_back_and_what_runs_does_not(fleet: Fleet) -> None:
    fleet.worker(threads=2)
    fleet.send("record", "out", "newer", headers=NEWER)
    fleet.send("record", "out", "runs", 2.0)
    until(lambda: len(fleet.out("started:out")) == 1 and fleet.held() == 2)
    before = fleet.given_back()
    fleet.redis.client_kill_filter(_type="normal", skipme=True)
    until(lambda: fleet.given_back() > before, what="it went back")
    until(lambda: fleet.out() == ["runs"], what="done")
    assert fleet.out("started:out") == ["runs"]
    assert fleet.losses() == 0


def test_a_restarted_worker_gives_back_its_predecessors_tasks_at_once(fleet: Fleet) -> None:
    first = fleet.worker(slot="7", threads=2)
    for number in range(2):
        fleet.send("record", "out", str(number), 20.0)  # longer than any pause of a busy machine before the kill
    until(lambda: len(fleet.out("started:out")) == 2)
    first.kill()
    first.wait()
    fleet.worker(slot="7", threads=2)
    until(lambda: len(fleet.out("started:out")) == 4, timeout_s=3)
    assert fleet.given_back() == fleet.held() == 2


def test_killed_workers_lose_nothing(any_fleet: Fleet) -> None:
    chance = random.Random(any_fleet.redis.info("server")["redis_version"])
    any_fleet.worker(slot="steady", threads=2, quiet_s=1.5, wait=False)
    victims = [any_fleet.worker(slot=slot, threads=8, wait=slot == "b") for slot in "ab"]
    until(lambda: any_fleet.redis.llen("ready") == 3)
    sent = [str(number) for number in range(400)]
    batch(any_fleet, sent, queue="lowtide.m.topic", seconds=0.005)
    for victim in victims:
        time.sleep(chance.uniform(0.02, 0.15))
        victim.send_signal(signal.SIGKILL)
    until(lambda: set(any_fleet.out()) == set(sent), timeout_s=12, what="everything is done")
    until(any_fleet.settled)
    assert any_fleet.given_back() > 0, "nobody was killed while it held something"


def test_a_message_pushed_to_a_vanished_machine_stays(fleet: Fleet) -> None:
    process = fleet.worker()
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    for queue in ("lowtide.m", "lowtide.m.topic", "other"):
        fleet.send("record", "out", queue, queue=queue)
    process.kill()
    process.wait()
    waiting = [fleet.redis.llen(fleet.keys.queue(queue)) for queue in ("lowtide.m", "lowtide.m.topic", "other")]
    assert waiting == [1, 1, 1]


def test_a_worker_goes_on_after_redis_restarts_and_runs_nothing_twice(tmp_path: Path) -> None:
    with server_of(find_redis(), tmp_path, append_only=True) as server, fleet_on(server) as fleet:
        process = fleet.worker(threads=4, quiet_s=2)
        for number in range(3):
            fleet.send("record", "out", str(number), 2.5)
        fleet.send("record", "out", "later", countdown=2)
        until(lambda: len(fleet.out("started:out")) == fleet.held() == 3)
        server.stop()
        time.sleep(0.3)
        server.start()
        fleet.send("record", "out", "after")
        until(lambda: len(fleet.out()) == 5, timeout_s=15)
        until(fleet.settled)
        assert process.poll() is None
        assert Counter(fleet.out("started:out")) == Counter(["0", "1", "2", "later", "after"])
        assert fleet.given_back() == 0

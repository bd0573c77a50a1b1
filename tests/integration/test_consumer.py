"""Worker processes with our consumer, a stock publisher, a real Redis."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from lowtide.tasks.app import celery_config
from lowtide.tasks.queues import WIRE_VERSION_HEADER
from lowtide.tasks.wire.version import WIRE_VERSION
from tests.integration.bare_fleet import Fleet, Server, fleet_on
from tests.waiting import PATIENCE_S, until

NEWER = {WIRE_VERSION_HEADER: WIRE_VERSION + 1}
"""Headers of a task of a newer release: it is held for a while, and not started."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker for the tests that leave it as it was."""
    with Server(tmp_path_factory.mktemp("redis")) as server, fleet_on(server) as fleet:
        fleet.worker(quiet_s=1)
        yield fleet


def test_a_worker_takes_no_more_than_it_has_room_for(fleet: Fleet) -> None:
    fleet.worker(threads=16, BARE_WORK_S="0.15")
    for number in range(10):
        fleet.send("hold", "out", str(number))
    until(lambda: len(fleet.out("started:out")) == 2)
    time.sleep(0.4)
    assert fleet.held() == 2  # 0.15 s is less than two chunks of 0.1 s, 0.3 s isn't
    fleet.let_go(2)
    until(lambda: (len(fleet.out("started:out")), fleet.held()) == (4, 2))


def test_a_worker_without_room_does_not_spin(fleet: Fleet) -> None:
    process = fleet.worker(threads=1)
    for number in range(20):
        fleet.send("hold", "out", str(number), queue="lowtide.m.topic")
    until(lambda: fleet.out("started:out"))
    time.sleep(1.1)  # what comes once has come

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
        fleet.send("hold", "out", str(number), headers={"lowtide-n": 15})
    until(lambda: len(fleet.out("started:out")) == 2)
    time.sleep(0.2)
    assert fleet.held() == 2


def test_a_task_that_rejects_goes_back_and_is_no_loss(running: Fleet) -> None:
    before = running.put_back()
    running.send("refuse", "reject", "a")
    until(lambda: running.out("reject") == ["a"])
    until(running.nothing_held)
    assert running.put_back() == before + 1
    assert running.out("losses:reject") == ["0"]


def test_a_finished_task_that_comes_back_is_not_run_again(running: Fleet) -> None:
    task = running.send("answer", "finished", "a")
    until(lambda: running.redis.exists(running.keys.result(task)))
    until(running.nothing_held)
    running.redis.delete("finished")
    message = running.publisher.amqp.as_task_v2(task, "answer", ["finished", "again"])
    with running.publisher.producer_or_acquire() as producer:
        info = {"delivery_info": {"redelivered": True}}
        common = {"exchange": "", "routing_key": "lowtide.m", "headers": message.headers, "serializer": "json"}
        producer.publish(message.body, **common, **info)
    running.send("record", "finished", "after")
    until(lambda: running.out("finished") == ["after"])
    until(running.nothing_held)


def test_a_task_that_runs_for_long_is_not_taken_away(running: Fleet) -> None:
    running.send("record", "long", "a", 2.2)
    until(lambda: running.out("long") == ["a"])
    until(running.nothing_held)
    assert running.out("started:long") == ["a"]


def test_garbage_in_a_queue_stops_nobody(running: Fleet) -> None:
    for garbage in (b"not json", b"[1]", b"null", b'"text"', b'{"headers": {}}', b'{"properties": 5}', b"\xff\xfe"):
        running.redis.lpush(running.keys.queue("lowtide.m"), garbage)
    running.send("record", "garbage", "after")
    until(lambda: running.out("garbage") == ["after"])
    until(running.nothing_held)
    assert running.workers[0].poll() is None


def test_what_is_not_due_waits_outside_the_worker_and_runs_once_it_is(running: Fleet) -> None:
    old = Celery("old", set_as_current=False)
    old.conf.update({**celery_config(running.settings), "task_routes": (), "task_protocol": 1})
    running.send("record", "due", "much later", countdown=600)
    old.send_task("record", ("due", "much later"), queue="lowtide.m.topic", countdown=600)
    until(lambda: running.redis.zcard(running.keys.scheduled) == 2 and not running.held())
    running.send("record", "due", "now")
    until(lambda: running.out("due") == ["now"])
    running.redis.delete(running.keys.scheduled)

    until(lambda: running.publisher.control.revoke("revoked", reply=True), what="it is known")
    running.send("record", "due", "a", countdown=1)
    old.send_task("record", ("due", "first protocol"), queue="lowtide.m.topic", countdown=1)
    running.send("record", "due", "expired", countdown=1, expires=0.5)
    running.send("record", "due", "revoked", countdown=1, task_id="revoked")
    until(lambda: len(running.out("due")) == 3 and not running.redis.exists(running.keys.scheduled))
    until(running.nothing_held)
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
    task = running.send("hold", "terminate", "a")
    until(lambda: running.out("started:terminate"))
    until(lambda: running.publisher.control.revoke(task, terminate=True, reply=True), what="it is known")
    running.let_go(1, "terminate")
    until(lambda: running.out("terminate") == ["a"])
    until(running.nothing_held)


def test_a_stop_hands_back_what_was_not_started_and_counts_no_loss(fleet: Fleet) -> None:
    process = fleet.worker(threads=2)
    fleet.send("record", "out", "much later", queue="lowtide.m.high", countdown=600)
    fleet.send("hold", "out", "0")
    until(lambda: fleet.out("started:out"))
    before = fleet.put_back()
    fleet.send("record", "out", "newer", queue="lowtide.m.high", headers=NEWER)
    until(lambda: fleet.held() == 2)
    for number in range(1, 6):
        fleet.send("hold", "out", str(number))
    process.terminate()
    until(lambda: fleet.out("stopping"))
    fleet.let_go(6)
    assert process.wait(PATIENCE_S) == 0
    assert fleet.nothing_held()
    assert fleet.put_back() > before
    waiting = [fleet.redis.llen(fleet.keys.queue(queue)) for queue in ("lowtide.m.high", "lowtide.m")]
    assert [waiting[0], len(fleet.out()) + waiting[1]] == [1, 6]
    assert fleet.redis.zcard(fleet.keys.scheduled) == 1
    assert fleet.losses() == 0


def test_what_was_not_started_when_the_connection_broke_goes_back_and_what_runs_does_not(fleet: Fleet) -> None:
    fleet.worker(threads=2)
    fleet.send("hold", "out", "runs")
    until(lambda: fleet.out("started:out"))
    fleet.send("record", "out", "newer", headers=NEWER)
    until(lambda: fleet.held() == 2)
    before = fleet.put_back()
    fleet.redis.client_kill_filter(_type="normal", skipme=True)
    until(lambda: fleet.put_back() > before, what="it went back")
    fleet.let_go(1)
    until(lambda: fleet.out() == ["runs"], what="done")
    assert fleet.out("started:out") == ["runs"]
    assert fleet.losses() == 0


def test_a_restarted_worker_gives_back_its_predecessors_tasks_at_once(fleet: Fleet) -> None:
    first = fleet.worker(slot="7", threads=2)
    for number in range(2):
        fleet.send("hold", "out", str(number))
    until(lambda: len(fleet.out("started:out")) == 2)
    first.kill()
    first.wait()
    fleet.worker(slot="7", threads=2)
    until(lambda: len(fleet.out("started:out")) == 4)
    assert fleet.put_back() == fleet.held() == 2


def test_a_message_pushed_to_a_vanished_machine_stays(fleet: Fleet) -> None:
    process = fleet.worker()
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    for queue in ("lowtide.m", "lowtide.m.topic", "other"):
        fleet.send("record", "out", queue, queue=queue)
    process.kill()
    process.wait()
    waiting = [fleet.redis.llen(fleet.keys.queue(queue)) for queue in ("lowtide.m", "lowtide.m.topic", "other")]
    assert waiting == [1, 1, 1]


def test_a_worker_goes_on_after_redis_restarts_and_runs_nothing_twice(tmp_path: Path) -> None:
    with Server(tmp_path / "redis") as server, fleet_on(server) as fleet:
        process = fleet.worker(threads=4, quiet_s=2)
        for number in range(3):
            fleet.send("hold", "out", str(number))
        fleet.send("record", "out", "later", countdown=2)
        until(lambda: {"0", "1", "2"} <= set(fleet.out("started:out")))
        server.stop()
        time.sleep(0.3)
        server.start()
        fleet.send("record", "out", "after")
        fleet.let_go(3)
        until(lambda: len(fleet.out()) == 5)
        until(fleet.nothing_held)
        assert process.poll() is None
        assert Counter(fleet.out("started:out")) == Counter(["0", "1", "2", "later", "after"])
        assert fleet.put_back() == 0

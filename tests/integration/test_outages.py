"""Redis and Pub/Sub fail in every way that they can, under a bridge and a worker that are processes of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery

from lowtide.bridge.create import create_missing
from lowtide.bridge.pubsub import CALL_S
from lowtide.local.metadata import MetadataServer
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.preemption import PREEMPTED
from lowtide.tasks.transport.pulse import LONGEST_TURN_S
from tests import services
from tests.integration.outage_fleet import OutageFleet, PubsubServer, Serve, outage_fleet, steady_port, until

SAID = re.compile(r"lowtide\.tasks\.outage: (.*): (trying on|back after)")
NOT_PULLING = "Redis can't be used: not pulling"

Fault = Callable[[OutageFleet], Any]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One that may be broken."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), port=steady_port()) as server:
        yield server


@pytest.fixture(scope="module")
def pubsub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubsubServer]:
    """One that may be broken."""
    server = PubsubServer(services.local_pubsub, tmp_path_factory.mktemp("pubsub"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def metadata() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        yield server


@pytest.fixture(scope="module")
def fleet(
    redis: EmbeddedRedis, pubsub_server: PubsubServer, metadata: MetadataServer, tmp_path_factory: Any
) -> Iterator[OutageFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with outage_fleet(folder, redis, pubsub_server.host, "test-outages", metadata_url=metadata.url) as running:
        yield running


@pytest.fixture(scope="module", params=["ours", "emulator"])
def pubsub(request: pytest.FixtureRequest, fleet: OutageFleet, pubsub_server: PubsubServer) -> PubsubServer:
    """Ours, then Google's emulator at the same address, which stays: such tests come last."""
    if request.param == "emulator":
        request.getfixturevalue("emulator_here")
        exchange(fleet, pubsub_server, services.google_emulator)
    return pubsub_server


def exchange(fleet: OutageFleet, server: PubsubServer, serve: Serve) -> None:
    """Another server takes the place of the one that runs. The bridge sleeps meanwhile: it would wait for topics."""
    bridge = fleet.processes["bridge"].pid
    assert bridge
    os.kill(bridge, signal.SIGSTOP)
    server.stop()
    server.serve = serve
    server.start()
    create_topics(fleet, server)
    os.kill(bridge, signal.SIGCONT)
    with everything_gets_one_result(fleet):
        until(lambda: fleet.copies)


def create_topics(fleet: OutageFleet, server: PubsubServer) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", server.host)
        create_missing(fleet.settings)


def kill(fleet: OutageFleet) -> None:
    assert fleet.server.pid
    os.kill(fleet.server.pid, signal.SIGKILL)
    fleet.server.stop()


def start(fleet: OutageFleet) -> None:
    fleet.server.start()


def start_empty(fleet: OutageFleet) -> None:
    shutil.rmtree(fleet.server.log_path.parent)
    fleet.server.start()


def fill(fleet: OutageFleet) -> None:
    fleet.redis.config_set("maxmemory", 1_000_000)


def enlarge(fleet: OutageFleet) -> None:
    fleet.redis.config_set("maxmemory", 0)


def make_read_only(fleet: OutageFleet) -> None:
    fleet.redis.replicaof("127.0.0.1", 1)


def make_writable(fleet: OutageFleet) -> None:
    fleet.redis.replicaof("NO", "ONE")


def freeze(fleet: OutageFleet) -> None:
    assert fleet.server.pid
    os.kill(fleet.server.pid, signal.SIGSTOP)


def thaw(fleet: OutageFleet) -> None:
    assert fleet.server.pid
    os.kill(fleet.server.pid, signal.SIGCONT)


@contextmanager
def each_process_says_it_once(fleet: OutageFleet) -> Iterator[dict[str, set[str]]]:
    """Gives what the outages were: process → sentences."""
    read = {name: len(fleet.log(name)) for name in fleet.processes}
    said: dict[str, set[str]] = {}
    yield said
    for name, start_at in read.items():
        counts = Counter(SAID.findall(fleet.log(name)[start_at:]))
        said[name] = {service for service, _ in counts}
        assert counts == Counter((service, what) for service in said[name] for what in ("trying on", "back after"))


@contextmanager
def everything_gets_one_result(fleet: OutageFleet, *, survive: bool = True) -> Iterator[None]:
    """What is published in the block; and the processes survive."""
    fleet.confirmed.clear()
    fleet.copies.clear()
    processes = {name: process.pid for name, process in fleet.processes.items()}
    with fleet.load():
        yield
    until(lambda: not fleet.missing(), what=f"{len(fleet.missing())} results")
    time.sleep(1.0)  # for copies
    assert fleet.duplicates() == {}
    assert not survive or {name: process.pid for name, process in fleet.processes.items()} == processes


KILLED = pytest.param(kill, start, 2.0, id="killed")
BACK_EMPTY = pytest.param(kill, start_empty, 2.0, id="back empty")
FULL = pytest.param(fill, enlarge, 3.0, id="full")
READ_ONLY = pytest.param(make_read_only, make_writable, 3.0, id="read-only")
FROZEN = pytest.param(freeze, thaw, 7.0, id="frozen")  # longer than an answer is waited for

every_outage = pytest.mark.parametrize(("break_it", "mend_it", "for_s"), [KILLED, BACK_EMPTY, FULL, READ_ONLY, FROZEN])


@every_outage
def test_without_redis_the_bridge_pulls_nothing_says_so_once_and_goes_on_when_it_is_back(
    fleet: OutageFleet, break_it: Fault, mend_it: Fault, for_s: float
) -> None:
    read = len(fleet.log("worker"))
    with each_process_says_it_once(fleet) as said, everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        break_it(fleet)
        time.sleep(1.0)
        held = fleet.held()
        time.sleep(for_s - 1.0)
        assert fleet.held() == held
        mend_it(fleet)
        answered = len(fleet.copies)
        until(lambda: len(fleet.copies) > answered)
    assert NOT_PULLING in said["bridge"]
    if break_it is fill:  # what is under way goes its way, which makes room
        assert "Connection to broker lost" not in fleet.log("worker")[read:]
        assert said == {"bridge": {NOT_PULLING}, "worker": set()}


def test_a_redis_that_is_emptied_costs_no_request(fleet: OutageFleet) -> None:
    with each_process_says_it_once(fleet), everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        for _ in range(5):
            fleet.redis.flushall()
            time.sleep(0.3)


@every_outage
def test_a_task_that_finishes_without_redis_is_stored_when_it_is_back_and_not_run_again(
    fleet: OutageFleet, break_it: Fault, mend_it: Fault, for_s: float
) -> None:
    ran = fleet.log("worker").count("lowtide.infer[")
    with Celery("caller", broker=fleet.settings.redis_url, set_as_current=False) as caller:
        request = {"model": "slow", "data": "YWJj", "params": {"sleep_s": 1.0}}
        task = caller.send_task("lowtide.infer", [request], queue="lowtide.slow").id
    until(lambda: fleet.redis.hlen(fleet.keys.unacked))
    break_it(fleet)
    time.sleep(for_s)
    mend_it(fleet)
    stored = until(lambda: fleet.redis.get(fleet.keys.result(task)))
    until(lambda: not fleet.redis.hlen(fleet.keys.unacked) and not fleet.redis.llen(fleet.keys.queue("lowtide.slow")))

    assert (json.loads(stored)["status"], json.loads(stored)["result"]) == ("SUCCESS", [3.0])
    assert fleet.log("worker").count("lowtide.infer[") == ran + 1


def test_a_worker_waits_for_redis_for_longer_than_its_event_loop_may_stand_still(fleet: OutageFleet) -> None:
    fleet.processes["worker"].stop()
    until(lambda: "worker" not in fleet.alive())
    fleet.start("worker", "worker", LOWTIDE_HEALTH_PORT="0", LOWTIDE_STUCK_AFTER_S="2")
    until(lambda: "worker" in fleet.alive())
    with everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        kill(fleet)
        time.sleep(LONGEST_TURN_S + 5.0)
        start(fleet)


def test_a_full_redis_becomes_emptier_by_itself(fleet: OutageFleet) -> None:
    """Its memory is what waits: results must find room before tasks can leave."""
    fleet.processes["worker"].stop()
    with Celery("caller", broker=fleet.settings.redis_url, set_as_current=False) as caller:
        request = {"model": "slow", "data": "YWJj" * 1000}
        tasks = [caller.send_task("lowtide.infer", [request], queue="lowtide.slow").id for _ in range(100)]
    fill(fleet)
    fleet.start("worker", "worker", LOWTIDE_HEALTH_PORT="0")
    until(lambda: fleet.redis.exists(*map(fleet.keys.result, tasks)) == len(tasks))
    until(lambda: not fleet.redis.hlen(fleet.keys.unacked))
    enlarge(fleet)


CALLER = """
import time
from lowtide.tasks import infer_many

def requests():
    for index in range(600):
        if index == 100:
            print("begun", flush=True)
        time.sleep(0.01)
        yield {"model": "slow", "data": "YWJj"}

print(sorted(answer.index for answer in infer_many(requests())) == list(range(600)))
"""


@pytest.mark.parametrize(("break_it", "mend_it", "for_s"), [BACK_EMPTY, FULL])
def test_infer_many_waits_for_a_redis_that_is_away(
    fleet: OutageFleet, break_it: Fault, mend_it: Fault, for_s: float
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CALLER]
    with subprocess.Popen(command, env={**os.environ, **fleet.env}, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout
        assert caller.stdout.readline() == "begun\n"
        break_it(fleet)
        time.sleep(for_s)
        mend_it(fleet)
        assert caller.communicate(timeout=60)[0] == "True\n"


def test_a_notice_of_preemption_drains_and_who_starts_meanwhile_takes_nothing(
    fleet: OutageFleet, metadata: MetadataServer
) -> None:
    with everything_gets_one_result(fleet, survive=False):
        until(lambda: fleet.copies)
        fleet.stop_both(lambda: metadata.announce(PREEMPTED, "TRUE"), within_s=25.0)
        assert not fleet.redis.hlen(fleet.keys.unacked)
        assert not fleet.redis.keys(fleet.keys.loss("*"))
        read = {name: len(fleet.log(name)) for name in fleet.processes}
        fleet.start_both()
        for name, start_at in read.items():
            until(lambda name=name, at=start_at: "waiting without taking work" in fleet.log(name)[at:])
        answered = len(fleet.copies)
        time.sleep(1.0)
        assert (len(fleet.copies), fleet.alive()) == (answered, set())
        metadata.announce(PREEMPTED, "FALSE")
        until(lambda: len(fleet.copies) > answered)


def test_a_drain_ends_in_time_also_when_redis_does_not_answer(fleet: OutageFleet) -> None:
    with everything_gets_one_result(fleet, survive=False):
        until(lambda: fleet.copies)
        freeze(fleet)
        time.sleep(1.0)
        signals = [process.pid for process in fleet.processes.values()]
        fleet.stop_both(lambda: [os.kill(pid, signal.SIGTERM) for pid in signals if pid], within_s=15.0)
        assert "messages handed back" in fleet.log("bridge"), "Pub/Sub is well"
        thaw(fleet)
        fleet.start_both()


def test_a_pubsub_that_stands_still_costs_neither_a_request_nor_a_copy(
    fleet: OutageFleet, pubsub: PubsubServer
) -> None:
    with each_process_says_it_once(fleet), everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        pubsub.signal(signal.SIGSTOP)
        time.sleep(CALL_S + 1.0)
        pubsub.signal(signal.SIGCONT)


def test_a_pubsub_that_is_gone_and_comes_back_without_topics_is_waited_for(
    fleet: OutageFleet, pubsub: PubsubServer
) -> None:
    with each_process_says_it_once(fleet) as said:
        pubsub.stop()
        time.sleep(1.0)
        pubsub.start()
        until(lambda: "NOT_FOUND" in fleet.health()["reason"], what="the bridge says what is missing")
        create_topics(fleet, pubsub)
        with everything_gets_one_result(fleet):
            until(lambda: fleet.copies)
    assert said["bridge"] == {"can't pull"}


def test_a_bridge_that_starts_while_pubsub_is_away_waits_for_it(fleet: OutageFleet, pubsub: PubsubServer) -> None:
    pubsub.stop()
    fleet.processes["bridge"].stop()
    fleet.start("bridge", "bridge --create")
    until(lambda: "Pub/Sub does not answer: trying on" in fleet.log("bridge"))
    pubsub.start()
    with everything_gets_one_result(fleet):
        until(lambda: fleet.copies)

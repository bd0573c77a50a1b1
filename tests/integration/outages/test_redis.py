"""Redis fails in every way that it can, under a bridge and a worker that are processes of their own."""

import json
import os
import subprocess
import sys
import time

import pytest
from celery import Celery

from lowtide.workers.consumer.loop_liveness import LONGEST_TURN_S
from tests.integration.outages.faults import (
    Fault,
    enlarge,
    fill,
    freeze,
    kill,
    make_read_only,
    make_writable,
    start,
    start_empty,
    thaw,
)
from tests.integration.outages.fleet import (
    OutageFleet,
    each_process_says_it_once,
    everything_gets_one_result,
)
from tests.waiting import until

NOT_PULLING = "Redis can't be used: not pulling"

KILLED = pytest.param(kill, start, 2.0, id="killed")
BACK_EMPTY = pytest.param(kill, start_empty, 2.0, id="back empty")
FULL = pytest.param(fill, enlarge, 3.0, id="full")
READ_ONLY = pytest.param(make_read_only, make_writable, 3.0, id="read-only")
FROZEN = pytest.param(freeze, thaw, 7.0, id="frozen")  # longer than an answer is waited for

every_outage = pytest.mark.parametrize(("break_it", "mend_it", "for_s"), [KILLED, BACK_EMPTY, FULL, READ_ONLY, FROZEN])


def all_stays_in_pubsub(fleet: OutageFleet, for_s: float) -> bool:
    """Nobody pulls, for so long, any of what waits now."""
    waiting = fleet.waiting()
    time.sleep(for_s)
    return bool(waiting) and waiting <= fleet.waiting()


@every_outage
def test_without_redis_the_bridge_pulls_nothing_says_so_once_and_goes_on_when_it_is_back(
    fleet: OutageFleet, break_it: Fault, mend_it: Fault, for_s: float
) -> None:
    read = {name: len(fleet.log(name)) for name in fleet.processes}
    with each_process_says_it_once(fleet) as said, everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        break_it(fleet)
        until(lambda: NOT_PULLING in fleet.log("bridge")[read["bridge"] :])
        until(lambda: all_stays_in_pubsub(fleet, for_s))  # what was asked for before may still come
        mend_it(fleet)
        answered = len(fleet.copies)
        until(lambda: len(fleet.copies) > answered)
    if break_it is fill:  # what is under way goes its way, which makes room
        assert "Connection to broker lost" not in fleet.log("worker")[read["worker"] :]
        assert said == {"bridge": {NOT_PULLING}, "worker": set()}


def test_a_redis_that_is_emptied_costs_no_request(fleet: OutageFleet) -> None:
    with each_process_says_it_once(fleet), everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        for _ in range(5):
            fleet.redis.flushall()
            time.sleep(0.3)


def test_content_that_redis_loses_costs_no_request(fleet: OutageFleet) -> None:
    read = len(fleet.log("bridge"))

    def lost() -> bool:
        if blobs := list(fleet.redis.scan_iter(fleet.keys.blob("*"))):
            fleet.redis.delete(*blobs)
        return "Redis lost the content of" in fleet.log("bridge")[read:]

    with each_process_says_it_once(fleet) as said, everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        until(lost)
    assert said == {"bridge": set(), "worker": set()}


@every_outage
def test_a_task_that_finishes_without_redis_is_stored_when_it_is_back_and_not_run_again(
    fleet: OutageFleet, break_it: Fault, mend_it: Fault, for_s: float
) -> None:
    ran = fleet.log("worker").count("lowtide.infer[")
    with Celery("caller", broker=fleet.settings.redis_url, set_as_current=False) as caller:
        request = {"model": "slow", "data": "YWJj", "params": {"sleep_s": 1.0}}
        task = caller.send_task("lowtide.infer", [request], queue="lowtide.slow").id
    until(lambda: fleet.redis.hlen(fleet.keys.holders) or fleet.redis.exists(fleet.keys.result(task)))
    break_it(fleet)
    time.sleep(for_s)
    mend_it(fleet)
    stored = until(lambda: fleet.redis.get(fleet.keys.result(task)))
    until(lambda: not fleet.redis.hlen(fleet.keys.holders) and not fleet.redis.llen(fleet.keys.queue("lowtide.slow")))

    assert (json.loads(stored)["status"], json.loads(stored)["result"]) == ("SUCCESS", [3.0])
    until(lambda: fleet.log("worker").count("lowtide.infer[") > ran)  # it tells of a task once that is stored
    assert fleet.log("worker").count("lowtide.infer[") == ran + 1


def test_a_worker_waits_for_redis_for_longer_than_its_event_loop_may_stand_still(fleet: OutageFleet) -> None:
    fleet.processes["worker"].stop()
    until(lambda: "worker" not in fleet.alive())
    fleet.start("worker", "worker", LOWTIDE_HEALTH_PORT="0", LOWTIDE_STUCK_AFTER_S="2")
    until(lambda: "worker" in fleet.alive())
    with everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        kill(fleet)
        time.sleep(LONGEST_TURN_S + 2.5)
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
    until(lambda: not fleet.redis.hlen(fleet.keys.holders))
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

"""Other Celery workers on the same Redis and prefix, beside a worker and a sweeper of ours."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from redis import Redis

from lowtide.autoscaling.signal.backlog import BacklogReader
from lowtide.config import load_settings
from lowtide.tasks.app import TRANSPORTS
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.workers.consumer.channel import Misplaced
from lowtide.workers.consumer.install import install, uninstall
from tests.integration.bare_fleet import ROOT, Fleet, Server, fleet_on
from tests.waiting import until

QUIET_S = 1.0

OWN_APP = """
import os, time
from celery import Celery
from redis import Redis

url = os.environ["LOWTIDE_REDIS_URL"]
app = Celery("own", broker=url)
app.conf.broker_transport_options = {"global_keyprefix": "fleet:"}
app.conf.task_acks_late = True

@app.task(name="own.sleep", ignore_result=True)
def sleep(number):
    redis = Redis.from_url(url)
    redis.rpush("own:started", number)
    while not redis.exists("own:go"):
        time.sleep(0.02)

app.worker_main(["worker", "-P", "threads", "-c", "1", "-l", "WARNING", "--without-gossip", "--without-mingle"])
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Server(tmp_path / "redis") as server, fleet_on(server) as fleet:
        yield fleet


@pytest.fixture
def installed(redis_url: str) -> Iterator[str]:
    """As in a worker's process; the URL."""
    settings = load_settings(redis_url=redis_url, prefix="fleet:")
    heartbeat: Any = SimpleNamespace(incarnation="0a")
    install(settings=settings, heartbeat=heartbeat, seconds_per_request=lambda _: 0)
    yield redis_url
    uninstall()


def test_what_our_app_reads_from_a_queue_outside_of_celerys_loop_stays_that_queues(installed: str) -> None:
    with Redis.from_url(installed) as redis, Connection(installed, transport=TRANSPORTS["redis"]) as connection:
        with connection.SimpleQueue("own") as queue:
            queue.put("first")
            queue.put("second")
            queue.get(timeout=5).ack()
            queue.get(timeout=5)
            assert (redis.hlen("unacked"), redis.llen("own")) == (1, 0)
        connection.close()
        assert (redis.hlen("unacked"), redis.llen("own")) == (0, 1), "what it did not acknowledge is there again"
        assert not redis.keys("fleet:*")


def test_a_worker_does_not_listen_where_the_fleet_does_not_take(installed: str) -> None:
    for options in ({}, {"global_keyprefix": "fleet:", "sep": ":"}):
        with Connection(installed, transport=TRANSPORTS["redis"], transport_options=options) as connection:
            poller = connection.default_channel.connection.cycle
            with pytest.raises(Misplaced, match="broker_transport_options"):
                poller.on_poll_init(None)


def test_what_an_applications_own_workers_hold_is_theirs(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_APP)
    fleet.worker(quiet_s=QUIET_S)
    environment = {**os.environ, "LOWTIDE_REDIS_URL": fleet.server.url}
    fleet.workers.append(
        subprocess.Popen([sys.executable, "-W", "ignore", str(tmp_path / "own.py")], env=environment, cwd=ROOT)
    )
    for number in range(4):
        fleet.send("own.sleep", number, queue="celery")
    held = fleet.keys.queue("unacked")
    until(lambda: fleet.redis.llen("own:started") == 1 and fleet.redis.hlen(held) == 4)
    sweeper = Sweeper(fleet.redis, fleet.keys, quiet_s=QUIET_S)

    end_s = time.monotonic() + 2 * QUIET_S
    while time.monotonic() < end_s:
        assert sweeper.sweep() == 0
        time.sleep(QUIET_S / 10)
    assert (fleet.redis.hlen(held), fleet.redis.llen(fleet.keys.queue("celery"))) == (4, 0), "nothing was given back"
    backlog = BacklogReader(fleet.redis, fleet.keys, ["m"]).read()
    assert (backlog.by_model, backlog.chunks, fleet.losses()) == ({"m": 0}, 0, 0)

    fleet.send("record", "out", "ours")
    fleet.redis.set("own:go", 1)
    until(lambda: fleet.out() == ["ours"] and not fleet.redis.hlen(held))
    until(fleet.nothing_held)
    assert fleet.out("own:started") == ["0", "1", "2", "3"], "each once"
    assert fleet.out("started:out") == ["ours"], "and ours once"

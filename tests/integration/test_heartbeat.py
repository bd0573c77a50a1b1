"""Heartbeats, against every Redis server of this machine."""

import statistics
import time
from contextlib import ExitStack

import pytest

from lowtide.bridge.fleet import FleetReader
from lowtide.config import load_settings
from lowtide.tasks.held.heartbeat import MOMENTS, TELLS_EVERY, Heartbeat
from lowtide.tasks.held.moves import SWEEP_MAX_MESSAGES, Moves
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import alive, live
from tests.integration.bare_fleet import PREFIX, Server
from tests.waiting import until

KEYS = Keys(PREFIX)
INTERVAL_S = 1.0
PROCESSES = 20


def test_a_suspect_worker_is_alive_and_no_capacity(server: Server) -> None:
    server.redis.flushall()
    status: dict[str, str | None] = {"suspect": None}
    one, other = (Heartbeat(server.redis, KEYS, kind="worker", status=lambda: status) for _ in range(2))
    one.beat()
    status["suspect"] = "it fails what others answer"
    other.beat()
    bridge = Heartbeat(server.redis, KEYS, kind="bridge", name="b")
    bridge.beat()
    fleet = FleetReader(server.redis, KEYS, load_settings(project="p", models="m"), bridge="b")
    assert (fleet.read().workers, fleet.read().bridges) == (1, 1)
    assert len(live(server.redis, KEYS, "worker")) == 2
    status["suspect"] = None
    other.beat()
    assert alive(server.redis, KEYS, "worker") == 2


@pytest.mark.parametrize("ends", ["in order", "silently"])
def test_of_a_suspect_worker_that_is_gone_nothing_stays(server: Server, ends: str) -> None:
    server.redis.flushall()
    heartbeat = Heartbeat(server.redis, KEYS, kind="worker", status=lambda: {"suspect": "why"})
    heartbeat.beat()
    assert server.redis.zcard(KEYS.suspects) == 1
    if ends == "in order":
        heartbeat.stop()
    else:
        Moves(server.redis, KEYS).sweep_whole(str(heartbeat.incarnation))
    assert not server.redis.exists(KEYS.suspects, KEYS.workers)


def test_a_suspect_worker_that_is_given_up_is_no_capacity_less(server: Server) -> None:
    redis = server.redis
    redis.flushall()
    Heartbeat(redis, KEYS, kind="worker", name="well").beat()
    Heartbeat(redis, KEYS, kind="worker", name="0a", status=lambda: {"suspect": "why"}).beat()
    held = {str(number): f"{KEYS.queue('lowtide.m')}\n\n{number}" for number in range(2 * SWEEP_MAX_MESSAGES)}
    redis.hset(KEYS.held("0a"), mapping=held)
    Moves(redis, KEYS).sweep("0a", float(redis.zscore(KEYS.workers, "0a") or 0))
    assert alive(redis, KEYS, "worker") == 1
    redis.zadd(KEYS.suspects, {"removed by another release": float(redis.time()[0])})
    assert alive(redis, KEYS, "worker") == 1


def test_a_redis_that_fell_back_hears_again_what_it_was_told(server: Server) -> None:
    redis = server.redis
    redis.flushall()
    heartbeat = Heartbeat(redis, KEYS, kind="worker", name="0a", status=lambda: {"is": "idle"})
    heartbeat.beat()
    redis.hset(KEYS.worker_status, "0a", "what it said before")
    for _ in range(TELLS_EVERY):
        heartbeat.beat()
    assert redis.hget(KEYS.worker_status, "0a") == b'{"is": "idle"}'


def test_a_status_that_is_as_it_was_is_not_written_again_and_stays(server: Server) -> None:
    redis = server.redis
    redis.flushall()
    heartbeat = Heartbeat(redis, KEYS, kind="worker", name="0a", status=lambda: {"is": "idle"})
    heartbeat.beat()
    redis.config_resetstat()
    heartbeat.beat()
    assert "cmdstat_hset" not in redis.info("commandstats")
    assert redis.hgetall(KEYS.worker_status) == {b"0a": b'{"is": "idle"}'}


def test_processes_that_start_at_any_time_beat_at_few_moments_and_together(server: Server) -> None:
    every_s = INTERVAL_S / MOMENTS

    def beats() -> list[float]:
        return [beat for _, beat in server.redis.zrange(KEYS.workers, 0, -1, withscores=True)]

    server.redis.flushall()
    with ExitStack() as running:
        for _ in range(PROCESSES):
            heartbeat = Heartbeat(server.redis, KEYS, kind="worker", interval_s=INTERVAL_S)
            heartbeat.start()
            running.callback(heartbeat.stop)
            time.sleep(0.37 * every_s)
        # At any time it would be half of an interval between moments. A busy machine delays some now and then.
        until(lambda: statistics.median(beat % every_s for beat in beats()) < every_s / 4)
        assert len(beats()) == PROCESSES
        assert len({round(beat / every_s) % MOMENTS for beat in beats()}) > 1, "not all at the same"

"""Heartbeats, against every Redis server of this machine."""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lowtide.local.redis import redis_servers
from lowtide.tasks.heartbeat import MOMENTS, Heartbeat
from lowtide.tasks.keys import Keys
from tests.integration.transport_fleet import PREFIX, Server, server_of

SERVERS = redis_servers()
KEYS = Keys(PREFIX)
INTERVAL_S = 1.0
PROCESSES = 20


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(SERVERS[request.param], tmp_path_factory.mktemp("redis")) as server:
        yield server


def test_processes_that_start_at_any_time_beat_at_few_moments_and_together(server: Server) -> None:
    every_s = INTERVAL_S / MOMENTS
    with ExitStack() as running:
        for _ in range(PROCESSES):
            heartbeat = Heartbeat(server.redis, KEYS, kind="worker", interval_s=INTERVAL_S)
            heartbeat.start()
            running.callback(heartbeat.stop)
            time.sleep(0.37 * every_s)
        time.sleep(1.2 * INTERVAL_S)
        beats = [beat for _, beat in server.redis.zrange(KEYS.workers, 0, -1, withscores=True)]

    assert len(beats) == PROCESSES
    assert len({round(beat / every_s) % MOMENTS for beat in beats}) > 1, "not all at the same"
    # At any time it would be half of that.
    assert statistics.median(beat % every_s for beat in beats) < every_s / 4

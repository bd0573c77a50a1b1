"""How much content a bridge may put into Redis beside what others have there."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lowtide.bridge.acknowledge import Acknowledger
from lowtide.bridge.credit import content_room_bytes
from lowtide.bridge.fleet import FleetReader
from lowtide.bridge.held.held import Held
from lowtide.bridge.waits import Waits
from lowtide.config import load_settings
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.chunks.blob import Blobs
from lowtide.tasks.chunks.sending import Chunk, ChunkSender
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.tasks.redis.keys import Keys

KEYS = Keys("fleet:")
MIB = 1024 * 1024


@pytest.fixture
def redis(redis: Redis) -> Redis:
    redis.config_set("maxmemory", 64 * MIB)
    return redis


@pytest.fixture
def room_mib(redis: Redis) -> Callable[[], float]:
    """Of the bridge `here`, which has 1 MiB there."""
    settings = load_settings(project="p", prefix=KEYS.prefix, models="a")
    return lambda: (
        content_room_bytes(FleetReader(redis, KEYS, settings, bridge="here").read(), outstanding_bytes=MIB) / MIB
    )


def beat(redis: Redis, bridge: str, status: Mapping[str, Any]) -> None:
    Heartbeat(redis, KEYS, kind="bridge", name=bridge, status=lambda: status).beat()


def test_content_of_a_killed_bridge_counts_until_it_is_deleted(redis: Redis, room_mib: Callable[[], float]) -> None:
    beat(redis, "gone", {"content_bytes": 20 * MIB})
    beat(redis, "here", {"content_bytes": MIB})
    redis.hset(KEYS.blobs("gone"), "gone.1", 20 * MIB)

    assert room_mib() == 64 / 2 - 20 - 1
    redis.zadd(KEYS.bridges, {"gone": 1.0})  # silent, and still registered: the living have its share, but not its room
    assert room_mib() == 64 / 2 - 20 - 1
    now_s = 0.0
    sweeper = Sweeper(redis, KEYS, clock=lambda: now_s)
    for _ in range(30):
        now_s += 2
        beat(redis, "here", {"content_bytes": MIB})
        sweeper.sweep()
    assert not redis.exists(KEYS.blobs("gone"))
    assert room_mib() == 64 / 2 - 1


@pytest.mark.parametrize("status", ["not JSON", "\xff", "[]", '{"content_bytes": "much"}', "{}"])
def test_what_another_release_says_of_itself_leaves_the_room_as_it_is(
    redis: Redis, room_mib: Callable[[], float], status: str
) -> None:
    beat(redis, "other", {})
    redis.hset(KEYS.bridge_status, "other", status)
    redis.hset(KEYS.bridge_status, "gone before", '{"content_bytes": 99999999}')

    assert room_mib() == 64 / 2 - 1


def test_without_a_limit_nobody_asks_what_others_have(redis: Redis, room_mib: Callable[[], float]) -> None:
    beat(redis, "other", {"content_bytes": MIB})
    redis.config_set("maxmemory", 0)
    redis.config_resetstat()

    assert room_mib() == math.inf
    assert "cmdstat_zrange" not in redis.info("commandstats")


def test_content_that_could_not_be_deleted_is_deleted_when_redis_is_back(
    redis: Redis, redis_url: str, room_mib: Callable[[], float]
) -> None:
    beat(redis, "one", {"content_bytes": 0})
    ours = Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0))
    unused: Any = None
    held = Held()
    acknowledger = Acknowledger(
        pubsub=unused,
        records=unused,
        blobs=Blobs(ours, KEYS, bridge="one"),
        held=held,
        waits=Waits(delete_again_s=0.0),
    )
    with App(set_as_current=False) as app:
        app.conf.update(celery_config(load_settings(redis_url=redis_url, prefix=KEYS.prefix)))
        tasks = [f"one.{number}" for number in range(20)]
        ChunkSender(app, bridge="one").send(
            Chunk(task_id=task, queue="lowtide.a.topic", requests=({"model": "a", "data": bytes(MIB)},), sent_at=0)
            for task in tasks
        )
    pool, port = ours.connection_pool, ours.connection_pool.connection_kwargs["port"]
    pool.connection_kwargs["port"] = 1  # nobody listens there
    held.to_delete.put(tasks)
    acknowledger.turn(0.0)
    assert redis.hlen(KEYS.blobs("one")) == len(redis.keys(KEYS.blob("*"))) == 20
    assert room_mib() == 64 / 2 - 1
    pool.connection_kwargs["port"] = port
    pool.reset()
    acknowledger.turn(0.0)
    assert redis.keys("*blob*") == []

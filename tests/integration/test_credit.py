"""How much content a bridge may put into Redis beside what others have there."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from lowtide.bridge.credit import content_room_bytes
from lowtide.bridge.gauge import Gauge
from lowtide.config import load_settings
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.blob import Blobs
from lowtide.tasks.chunks import Chunk, ChunkSender
from lowtide.tasks.heartbeat import Heartbeat
from lowtide.tasks.keys import Keys

KEYS = Keys("fleet:")
MIB = 1024 * 1024
CHUNK = Chunk(task_id="gone.1", queue="lowtide.a.topic", requests=({"model": "a", "data": bytes(MIB)},), sent_at=0)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", 64 * MIB)
        yield client
        client.config_set("maxmemory", 0)


def test_content_that_a_killed_bridge_has_left_counts_until_it_is_deleted(redis: Redis, redis_url: str) -> None:
    settings = load_settings(project="p", redis_url=redis_url, prefix=KEYS.prefix, models="a")
    blobs = Blobs(redis, KEYS)
    for bridge in ("gone", "here"):
        Heartbeat(redis, KEYS, kind="bridge", name=bridge).beat()
    with App(set_as_current=False) as app:
        app.conf.update(celery_config(settings))
        ChunkSender(app).send(replace(CHUNK, task_id=f"gone.{number}") for number in range(20))
        ChunkSender(app).send([replace(CHUNK, task_id="here.1")])

    def room_bytes() -> float:
        return content_room_bytes(Gauge(redis, KEYS, settings, blobs, bridge="here").read(), outstanding_bytes=MIB)

    assert room_bytes() == (64 / 2 - 20 - 1) * MIB
    redis.zadd(KEYS.bridges, {"gone": 1.0})  # silent, and not struck yet: the living have its share, but not its room
    assert room_bytes() == (64 / 2 - 20 - 1) * MIB
    blobs.leave_none("gone")
    assert room_bytes() == (64 / 2 - 1) * MIB
    redis.config_set("maxmemory", 0)
    assert room_bytes() == math.inf

"""Another protocol in the same Redis: who finds it says so and waits, and what is there stays as it is."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from lowtide.bridge.held.held import LEASE_S
from lowtide.bridge.pubsub.create import create_missing
from lowtide.config import Settings, load_settings
from lowtide.tasks.app import configure
from lowtide.tasks.chunks.sending import Chunk, ChunkSender
from lowtide.tasks.client.served import Served
from lowtide.tasks.errors import OtherProtocol, RedisUnusable
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.tasks.redis import protocol
from lowtide.tasks.redis.keys import PROTOCOL, Keys
from lowtide.tasks.redis.trouble import named
from tests.integration.bare_fleet import Fleet, Server, fleet_on
from tests.integration.test_bridge import World, uris
from tests.waiting import until

KEYS = Keys("fleet:")
SPOKEN = KEYS.protocol


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load_settings(redis_url=redis_url, prefix=KEYS.prefix)


def live_unversioned(redis: Redis, kind: str, name: str) -> str:
    """A process of the release before the protocol had a key; returns the key that says that it lives."""
    redis.sadd(f"fleet:lt:{kind}", name)
    redis.set(key := f"fleet:lt:{kind[0]}:{name}", "{}", ex=15)
    return key


def test_the_first_who_registers_says_what_is_spoken_and_who_speaks_that_goes_on(redis: Redis) -> None:
    protocol.check(redis, KEYS)
    heartbeat = Heartbeat(redis, KEYS, kind="worker")
    heartbeat.beat()
    assert redis.get(SPOKEN) == PROTOCOL.encode()
    redis.delete(SPOKEN)  # by hand, or a Redis that was too full to take it
    heartbeat.beat()
    assert redis.get(SPOKEN) == PROTOCOL.encode()
    protocol.check(redis, KEYS)


def test_who_speaks_another_says_so_and_what_to_do(redis: Redis) -> None:
    redis.set(SPOKEN, "3")
    said = r"a fleet of protocol 3, this release speaks 2 → run a release .* LOWTIDE_PREFIX"
    with pytest.raises(RedisUnusable, match=said), named():
        Served(redis, KEYS).check("m")


def test_a_process_waits_until_its_own_is_spoken(
    redis: Redis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set(SPOKEN, "3")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            redis.flushall()

    protocol.wait(settings, sleep=sleep)
    assert len(waits) == 3
    assert caplog.text.count("protocol 3") == 1


@pytest.mark.parametrize("kind", ["workers", "bridges"])
def test_a_fleet_that_says_nothing_of_its_protocol_is_known_by_who_lives(redis: Redis, kind: str) -> None:
    key = live_unversioned(redis, kind, "host:0")
    with pytest.raises(OtherProtocol, match="protocol 1"):
        protocol.check(redis, KEYS)
    heartbeat = Heartbeat(redis, KEYS, kind="worker")
    heartbeat.beat()
    assert (heartbeat.incarnation, redis.exists(SPOKEN)) == (None, 0)

    redis.delete(key)  # its last process has ended, or died
    heartbeat.beat()
    assert heartbeat.incarnation


def test_what_a_fleet_without_a_protocol_took_must_go_back_first(redis: Redis) -> None:
    redis.hset("fleet:lt:unacked", "tag", "fleet:lowtide.m\n{}")
    redis.set("fleet:lt:epoch", "stays when nobody lives")
    with pytest.raises(OtherProtocol):
        protocol.check(redis, KEYS)
    redis.delete("fleet:lt:unacked")
    protocol.check(redis, KEYS)


def test_of_two_who_come_first_at_once_one_gives_way(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = Heartbeat(redis, KEYS, kind="worker")
    # The other comes between the look and the registration.
    monkeypatch.setattr("lowtide.tasks.held.heartbeat.check", lambda *_: redis.set(SPOKEN, "3"))
    heartbeat.beat()
    assert (heartbeat.incarnation, redis.exists(KEYS.workers), redis.get(SPOKEN)) == (None, 0, b"3")


def test_who_is_registered_is_so_no_longer_where_another_is_spoken_and_says_so(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat = Heartbeat(redis, KEYS, kind="worker")
    heartbeat.beat()
    first = heartbeat.incarnation
    redis.set(SPOKEN, "3")
    before = redis.zrange(KEYS.workers, 0, -1, withscores=True)
    for _ in range(3):
        heartbeat.beat()
    assert (heartbeat.incarnation, redis.get(SPOKEN)) == (None, b"3")
    assert redis.zrange(KEYS.workers, 0, -1, withscores=True) == before
    assert caplog.text.count("protocol 3") == 1

    redis.set(SPOKEN, PROTOCOL)
    heartbeat.beat()
    assert heartbeat.incarnation not in (None, first)


@pytest.mark.parametrize("led", [False, True])
def test_a_sweeper_leaves_alone_what_a_fleet_of_another_protocol_has(redis: Redis, led: bool) -> None:
    now_s = 0.0
    sweeper = Sweeper(redis, KEYS, clock=lambda: now_s)
    redis.zadd(KEYS.workers, {"silent": 5.0})
    redis.hset(KEYS.held("silent"), "tag", f"{KEYS.queue('lowtide.m')}\ntask\n{{}}")
    if led:
        sweeper.turn()
    redis.set(SPOKEN, "3")

    def turn_for(seconds: float) -> int:
        nonlocal now_s
        moved = 0
        for _ in range(int(seconds / 2)):
            now_s += 2
            moved += sweeper.turn()
        return moved

    assert turn_for(60) == 0
    assert not redis.exists(KEYS.sweeper), "nobody leads"
    redis.set(SPOKEN, PROTOCOL)
    assert turn_for(18) == 0, "it sees them silent from now on"
    assert turn_for(6) == 1


def test_no_chunk_goes_to_a_fleet_of_another_protocol(redis: Redis, settings: Settings) -> None:
    sender = ChunkSender(configure(settings))
    chunk = Chunk(task_id="o.t", queue="lowtide.m", requests=({"model": "m", "data": b"x"},), sent_at=time.time())
    redis.set(SPOKEN, "3")
    with pytest.raises(OtherProtocol):
        sender.send([chunk])
    assert redis.keys("*") == [SPOKEN.encode()]
    redis.set(SPOKEN, PROTOCOL)
    sender.send([chunk])
    assert redis.llen(KEYS.queue("lowtide.m")) == 1


def test_a_bridge_that_finds_another_hands_back_what_it_has_and_ends_to_wait_afresh(
    redis: Redis, redis_url: str, local_pubsub: Any, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", local_pubsub.host)
    settings = load_settings(redis_url=redis_url, project=project, prefix=KEYS.prefix, models="a,b")
    create_missing(settings)
    world = World(settings)
    with world.bridge(fails=True):
        world.publish(*uris(1))
        until(lambda: redis.llen(KEYS.queue("lowtide.a.topic")))
        redis.set(SPOKEN, "3")
        sent = redis.llen(KEYS.queue("lowtide.a.topic"))
        world.publish(*uris(20))
    ended_s = time.monotonic()
    assert redis.llen(KEYS.queue("lowtide.a.topic")) == sent
    assert not redis.exists(KEYS.queue("lowtide.b.topic"))
    assert len(world.take(settings.subscription[-1], 21)) == 21
    assert time.monotonic() - ended_s < LEASE_S / 2, "all of it goes to others at once"
    world.close()


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Server(tmp_path_factory.mktemp("redis")) as server, fleet_on(server) as fleet:
        yield fleet


def test_a_worker_that_finds_another_takes_nothing_until_its_own_is_spoken(fleet: Fleet) -> None:
    fleet.worker(BARE_BEAT_S="5")
    fleet.redis.set(SPOKEN, "3")
    fleet.send("record", "out", "theirs")
    time.sleep(1.5)
    assert (fleet.redis.llen(KEYS.queue("lowtide.m")), fleet.out()) == (1, [])
    fleet.redis.set(SPOKEN, PROTOCOL)
    until(lambda: fleet.out() == ["theirs"])
    assert fleet.redis.zcard(fleet.keys.workers) == 2, "nobody has removed the old incarnation"

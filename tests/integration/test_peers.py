from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from redis import Redis

from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.redis.keys import Keys
from lowtide.workers.suspicion.peers import SAMPLE, Peers
from lowtide.workers.suspicion.rule import Counts

KEYS = Keys("")


class World:
    """Workers that are registered, and one that asks."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.peers = Peers(redis, KEYS, lambda: "me")

    def says(self, name: str, **status: Any) -> None:
        Heartbeat(self.redis, KEYS, kind="worker", name=name, status=lambda: status).beat()

    def did(self, name: str, **outcomes: Mapping[str, int]) -> None:
        self.says(name, models=["m"], outcomes=outcomes)


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    with Redis.from_url(redis_url) as redis:
        yield World(redis)


def test_what_others_did_since_is_added_up(world: World) -> None:
    world.did("me", m={"ok": 1})
    world.did("a", m={"ok": 100, "forbidden": 1}, other={"ok": 5})
    world.did("b")
    world.peers.mark()
    world.did("me", m={"ok": 1000})
    world.did("a", m={"ok": 103, "forbidden": 1}, other={"ok": 50})
    world.did("b", m={"ok": 4, "timeout": 2})

    assert world.peers.since_mark("m") == Counts({"ok": 7, "timeout": 2})
    assert world.peers.serving("m")
    assert not world.peers.serving("other")


def test_alone_nobody_serves(world: World) -> None:
    world.peers.mark()
    assert not world.peers.serving("m")
    world.did("me", m={"ok": 1})
    world.peers.mark()
    assert not world.peers.serving("m")
    assert world.peers.since_mark("m") == Counts()


def test_who_drains_or_is_suspect_itself_serves_nothing(world: World) -> None:
    world.says("a", models=["m"], outcomes={}, draining=True)
    world.says("b", models=["m"], outcomes={}, suspect="it fails")
    world.peers.mark()
    assert not world.peers.serving("m")


def test_who_came_or_went_since_says_nothing(world: World) -> None:
    world.did("a", m={"ok": 1})
    world.peers.mark()
    world.did("b", m={"ok": 100})
    world.redis.hdel(KEYS.worker_status, "a")
    assert world.peers.since_mark("m") == Counts()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"models": ["m"]}', '{"models": "m", "outcomes": {}}', '{"models": [], "outcomes": 1}'],
)
def test_what_another_program_wrote_says_nothing(world: World, text: str) -> None:
    world.did("a", m={"ok": 1})
    world.did("odd")
    world.redis.hset(KEYS.worker_status, "odd", text)
    world.peers.mark()
    world.did("a", m={"ok": 2})
    assert world.peers.since_mark("m") == Counts({"ok": 1})


def test_of_a_large_fleet_a_few_are_asked(world: World) -> None:
    for number in range(3 * SAMPLE):
        world.did(f"w{number}", m={"ok": 0})
    world.peers.mark()
    for number in range(3 * SAMPLE):
        world.did(f"w{number}", m={"ok": 1})
    assert world.peers.since_mark("m") == Counts({"ok": SAMPLE})

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import ConnectionError as RedisGone
from redis import Redis

from lowtide.config import Settings
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.epoch import Epoch
from lowtide.tasks.redis.keys import Keys
from tests.ports import steady_port

KEYS = Keys("")


@pytest.fixture
def server(redis_server, tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """One of the test's own, which may be stopped."""
    with EmbeddedRedis(tmp_path / "redis", port=steady_port()) as server:
        yield server


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Redis]:
    with connect(Settings(redis_url=server.url)) as client:
        yield client


def infos(client: Redis) -> int:
    """How often this server was asked for INFO, this time not counted."""
    stats = client.info("commandstats")
    return int(stats.get("cmdstat_info", {"calls": 0})["calls"])


def another(server: EmbeddedRedis, *, folder: Path | None = None) -> EmbeddedRedis:
    """Not begun yet. On the same port; with another folder it is another server, which has nothing."""
    port = server.port
    server.stop()
    return EmbeddedRedis(folder or server.log_path.parent, port=port)


def changed(epoch: Epoch) -> bool:
    """As who asks each second, and goes on when Redis was away."""
    try:
        return epoch.changed()
    except RedisGone:
        return epoch.changed()


def test_info_is_asked_once_for_a_connection_however_often_one_looks(server: EmbeddedRedis, client: Redis) -> None:
    epoch = Epoch(client, KEYS)
    with Redis.from_url(server.url) as other:
        before = infos(other)
        assert not any(epoch.changed() for _ in range(50))
        assert infos(other) - before == 2  # ours before, and the one for the first connection

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: client.blpop(["nothing"], timeout=1), range(4)))
        before = infos(other)
        assert not any(epoch.changed() for _ in range(50))
        assert infos(other) - before <= 2


def test_a_restart_that_kept_its_data_is_noticed(server: EmbeddedRedis, client: Redis) -> None:
    epoch = Epoch(client, KEYS)
    assert not epoch.changed()
    word = client.get(KEYS.epoch)
    with another(server):
        assert changed(epoch)
        assert client.get(KEYS.epoch) == word
        assert not epoch.changed()


def test_a_restart_is_noticed_also_when_others_connected_first(server: EmbeddedRedis, client: Redis) -> None:
    epoch = Epoch(client, KEYS)
    assert not epoch.changed()
    with another(server):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: client.blpop(["nothing"], timeout=1), range(4)))
        assert changed(epoch)
        assert not epoch.changed()


def test_an_emptied_redis_is_noticed_although_it_keeps_connections(server: EmbeddedRedis, client: Redis) -> None:
    epoch = Epoch(client, KEYS)
    assert not epoch.changed()
    with Redis.from_url(server.url) as other:
        before = infos(other)
        other.flushall()
        assert epoch.changed()
        assert not epoch.changed()
        assert infos(other) - before == 1  # ours


def test_a_failover_to_an_empty_server_at_the_same_address_is_noticed(
    server: EmbeddedRedis, client: Redis, tmp_path: Path
) -> None:
    epoch = Epoch(client, KEYS)
    assert not epoch.changed()
    with another(server, folder=tmp_path / "other"):
        assert changed(epoch)
        assert not epoch.changed()

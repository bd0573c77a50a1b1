from collections.abc import Iterator

import pytest
from kombu.exceptions import BatchPublishError
from redis import Redis

from lowtide.config import load_settings
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.chunks.blob import DELETE_AT_ONCE, Blobs
from lowtide.tasks.chunks.publish import AT_ONCE_BYTES
from lowtide.tasks.chunks.sending import Chunk, ChunkSender
from lowtide.tasks.redis.keys import BLOB_S, Keys

QUEUE = "lowtide.a"
KEYS = Keys("fleet:")


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    with App(set_as_current=False) as app:
        app.conf.update(celery_config(load_settings(redis_url=redis_url, prefix=KEYS.prefix)))
        yield app


@pytest.fixture
def sender(app: App) -> ChunkSender:
    return ChunkSender(app)


def chunk(number: int, content: bytes = b"\x00\xff" * 1000) -> Chunk:
    request = {"model": "a", "data": content}
    return Chunk(task_id=f"o.{number}", queue=QUEUE, requests=(request, {"model": "a", "uri": "u"}, request), sent_at=0)


def test_a_redis_that_becomes_full_takes_a_task_and_its_content_or_neither(redis: Redis, sender: ChunkSender) -> None:
    refused = 0
    for room_bytes in range(0, 8_000_000, 400_000):
        redis.flushall()
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + room_bytes)
        try:
            sender.send([chunk(1, bytes(300_000)), chunk(2, bytes(300_000))])
        except BatchPublishError:
            refused += 1
        redis.config_set("maxmemory", 0)
        assert redis.llen(KEYS.queue(QUEUE)) == len(redis.keys(KEYS.blob("*")))

    assert 0 < refused < 20


def test_what_was_not_confirmed_is_sent_again_with_its_content(redis: Redis, sender: ChunkSender) -> None:
    redis.config_set("maxmemory", 1)
    with pytest.raises(BatchPublishError):
        sender.send([chunk(1), chunk(2)])
    redis.config_set("maxmemory", 0)
    sender.send([chunk(1), chunk(2)], again=True)

    assert redis.llen(KEYS.queue(QUEUE)) == 2
    assert [redis.get(KEYS.blob(f"o.{number}")) for number in (1, 2)] == [b"\x00\xff" * 2000] * 2


def test_of_each_bridge_redis_holds_a_list_of_its_content_until_that_is_forgotten(redis: Redis, app: App) -> None:
    sender, blobs = ChunkSender(app, bridge="o"), Blobs(redis, KEYS, bridge="o")
    sender.send([chunk(1), chunk(2)])
    sender.send([chunk(2), chunk(3)], again=True)

    assert redis.hgetall(KEYS.blobs("o")) == {f"o.{number}".encode(): b"4000" for number in (1, 2, 3)}
    redis.expire(KEYS.blobs("o"), 5)
    blobs.renew(["o.1", "o.2"])
    assert BLOB_S - 5 < redis.ttl(KEYS.blobs("o")) <= BLOB_S
    blobs.forget(["o.1", "o.2"])
    assert redis.hkeys(KEYS.blobs("o")) == [b"o.3"]
    assert blobs.leave_none("o") == 1
    assert redis.keys("*blob*") == []


def test_of_a_callers_content_there_is_no_list_which_nobody_would_read(redis: Redis, sender: ChunkSender) -> None:
    sender.send([chunk(1)])
    redis.config_resetstat()
    Blobs(redis, KEYS).renew(["o.1"])
    Blobs(redis, KEYS).forget(["o.1"])

    assert redis.info("commandstats").keys() & {"cmdstat_expire", "cmdstat_hset", "cmdstat_hdel"} == {"cmdstat_expire"}
    assert redis.info("commandstats")["cmdstat_expire"]["calls"] == 1
    sender.send([chunk(2)])
    assert redis.keys("*blob*") == [KEYS.blob("o.2").encode()]


@pytest.mark.parametrize(("mebibytes", "steps"), [((3, 3, 3, 3, 1, 1), 2), ((10, 1, 10), 3), ((1,) * 16, 2)])
def test_content_that_a_bridge_leaves_is_deleted_8_mib_at_a_time(
    redis: Redis, mebibytes: tuple[int, ...], steps: int
) -> None:
    sizes = {f"o.{number}": size * 1024 * 1024 for number, size in enumerate(mebibytes)}
    redis.hset(KEYS.blobs("o"), mapping=sizes)
    redis.mset({KEYS.blob(task): "content" for task in sizes})
    redis.config_resetstat()

    assert Blobs(redis, KEYS).leave_none("o") == len(sizes)
    assert redis.info("commandstats")["cmdstat_del"]["calls"] == steps
    assert redis.keys("*blob*") == []


def test_content_of_many_chunks_that_end_at_once_is_deleted_in_steps(redis: Redis) -> None:
    tasks = [f"o.{number}" for number in range(2 * DELETE_AT_ONCE + 1)]
    redis.mset({key(task): "x" for task in tasks for key in (KEYS.blob, KEYS.result)})
    redis.config_resetstat()
    Blobs(redis, KEYS).forget(tasks)

    assert redis.info("commandstats")["cmdstat_del"]["calls"] == 3
    assert redis.keys() == []


THIRD = b"\xff" * (AT_ONCE_BYTES // 3)
"""Twice in a chunk, so that two chunks are too much for one write, also in base64, and one is not."""


def test_much_content_goes_in_parts_each_with_its_tasks(redis: Redis, sender: ChunkSender) -> None:
    redis.config_resetstat()
    sender.send(chunk(number, THIRD) for number in range(5))

    assert redis.info("commandstats")["cmdstat_exec"]["calls"] == 3
    assert redis.llen(KEYS.queue(QUEUE)) == len(redis.keys(KEYS.blob("*"))) == 5
    assert THIRD not in b"".join(redis.lrange(KEYS.queue(QUEUE), 0, -1))


def test_much_content_within_tasks_goes_in_parts(redis: Redis, sender: ChunkSender) -> None:
    redis.config_resetstat()
    sender.send((chunk(number, THIRD) for number in range(5)), again=True, within_task=True)

    assert redis.info("commandstats")["cmdstat_exec"]["calls"] == 3
    assert redis.llen(KEYS.queue(QUEUE)) == 5


def test_each_task_has_a_token_in_the_same_write(redis: Redis, sender: ChunkSender) -> None:
    redis.config_resetstat()
    sender.send(map(chunk, range(5)))

    assert redis.llen(KEYS.wake("a")) == 5
    assert redis.info("commandstats")["cmdstat_exec"]["calls"] == 1


def test_content_is_not_copied_on_its_way_to_the_socket(redis: Redis, sender: ChunkSender) -> None:
    """By hiredis it would be, which takes longer than sending it."""
    content = bytes(100_000)
    with sender._app.producer_or_acquire() as producer:
        connection = producer.channel.pool.get_connection()
        assert any(part is content for part in connection.pack_command("SET", "k", content))
        producer.channel.pool.release(connection)

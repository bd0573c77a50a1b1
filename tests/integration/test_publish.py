from collections.abc import Iterator
from dataclasses import replace

import pytest
from kombu.exceptions import BatchPublishError
from redis import Redis

from lowtide.config import load_settings
from lowtide.tasks import publish
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.blob import Blobs
from lowtide.tasks.chunks import Chunk, ChunkSender
from lowtide.tasks.keys import BLOB_S, Keys

QUEUE = "lowtide.a"
KEYS = Keys("fleet:")


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client
        client.config_set("maxmemory", 0)


@pytest.fixture
def sender(redis_url: str) -> Iterator[ChunkSender]:
    with App(set_as_current=False) as app:
        app.conf.update(celery_config(load_settings(redis_url=redis_url, prefix=KEYS.prefix)))
        yield ChunkSender(app)


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


def test_of_each_sender_redis_holds_how_much_content_there_is_until_it_is_forgotten(
    redis: Redis, sender: ChunkSender
) -> None:
    blobs = Blobs(redis, KEYS)
    sender.send([chunk(1), chunk(2)])
    sender.send([chunk(2), chunk(3)], again=True)
    sender.send([replace(chunk(1), task_id="other.1")])

    assert blobs.size_bytes(["o", "nobody"]) == sum(redis.strlen(KEYS.blob(f"o.{number}")) for number in (1, 2, 3))
    assert blobs.size_bytes(["o", "other"]) == 4 * 4000
    redis.expire(KEYS.blobs("o"), 5)
    blobs.renew(["o.1", "o.2"])
    assert BLOB_S - 5 < redis.ttl(KEYS.blobs("o")) <= BLOB_S
    blobs.forget(["o.1", "o.2"])
    assert blobs.size_bytes(["o"]) == 4000
    assert blobs.leave_none("o") == 1
    assert redis.keys(KEYS.blob("*")) == [KEYS.blob("other.1").encode()]
    assert redis.keys(KEYS.blobs("*")) == [KEYS.blobs("other").encode()]


def test_much_content_goes_in_parts_each_with_its_tasks(
    redis: Redis, sender: ChunkSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "AT_ONCE_BYTES", 7000)
    redis.config_resetstat()
    sender.send(map(chunk, range(5)))

    assert redis.info("commandstats")["cmdstat_exec"]["calls"] == 3
    assert redis.llen(KEYS.queue(QUEUE)) == len(redis.keys(KEYS.blob("*"))) == 5
    assert chunk(0).requests[0]["data"] not in b"".join(redis.lrange(KEYS.queue(QUEUE), 0, -1))


def test_much_content_within_tasks_goes_in_parts(
    redis: Redis, sender: ChunkSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "AT_ONCE_BYTES", 10_000)
    redis.config_resetstat()
    sender.send(map(chunk, range(5)), again=True, within_task=True)

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

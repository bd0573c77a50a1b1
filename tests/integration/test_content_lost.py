"""What Redis holds when the content beside a task is gone, from the worker that says so to the sender that sends it
again.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from celery import states
from redis import Redis

from lowtide.config import load_settings
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.chunks.blob import CONTENT_LOST, NEWS, Blobs
from lowtide.tasks.chunks.results import ChunkResults, read_result
from lowtide.tasks.chunks.sending import Chunk, ChunkSender
from lowtide.tasks.redis.keys import BLOB_S, Keys
from lowtide.workers.consumer import results
from lowtide.workers.consumer.session import FINISHED

KEYS = Keys("fleet:")
OWNER = "0123abc"
TASK = f"{OWNER}.4567def"
CHUNK = Chunk(task_id=TASK, queue="lowtide.a", requests=({"model": "a", "data": b"content"},), sent_at=0)


@pytest.fixture
def blobs(redis: Redis) -> Blobs:
    return Blobs(redis, KEYS)


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    with App(set_as_current=False) as app:
        app.conf.update(celery_config(load_settings(redis_url=redis_url, prefix=KEYS.prefix)))
        results.install(app)  # as a worker does
        yield app


def test_the_sender_learns_that_content_is_gone(redis: Redis, blobs: Blobs) -> None:
    unanswered = SimpleNamespace(task_ids=lambda: [TASK], waits_for=[TASK].__contains__)
    chunks = ChunkResults(redis, KEYS, OWNER, unanswered)
    chunks.take(0.0)
    blobs.tell_lost(TASK)
    [told] = chunks.take(10.0)
    chunks.close()

    assert (told.task_id, told.lost_content) == (TASK, True)
    assert 0 < redis.ttl(KEYS.result(TASK)) <= BLOB_S


@pytest.mark.parametrize("there", [KEYS.result(TASK), KEYS.blob(TASK)])
def test_where_a_result_is_or_the_content_again_nothing_is_told(redis: Redis, blobs: Blobs, there: str) -> None:
    redis.set(there, "as it was")
    blobs.tell_lost(TASK)
    assert [(key.decode(), redis.get(key)) for key in redis.scan_iter()] == [(there, b"as it was")]


def test_a_full_redis_takes_what_is_told(redis: Redis, blobs: Blobs) -> None:
    redis.config_set("maxmemory", 1)
    blobs.tell_lost(TASK)
    assert redis.get(KEYS.result(TASK)) == NEWS.encode()


def test_to_celery_a_task_without_its_content_is_not_finished_and_its_result_is_stored(
    app: App, blobs: Blobs, redis: Redis
) -> None:
    blobs.tell_lost(TASK)
    assert not FINISHED.search(NEWS.encode())
    assert app.backend.get_task_meta(TASK, cache=False)["status"] == CONTENT_LOST

    app.backend.store_result(TASK, [], states.SUCCESS)
    assert not read_result(TASK, redis.get(KEYS.result(TASK))).lost_content


def test_whoever_sends_again_takes_back_what_was_told_in_the_same_transaction(
    app: App, redis: Redis, blobs: Blobs
) -> None:
    blobs.tell_lost(TASK)
    redis.config_resetstat()
    ChunkSender(app).send([CHUNK], again=True, within_task=True)

    assert not redis.exists(KEYS.result(TASK))
    assert redis.llen(KEYS.queue("lowtide.a")) == 1
    assert redis.info("commandstats")["cmdstat_exec"]["calls"] == 1


def test_whoever_sends_again_leaves_a_result(app: App, redis: Redis) -> None:
    app.backend.store_result(TASK, [], states.SUCCESS)
    result = redis.get(KEYS.result(TASK))
    ChunkSender(app).send([CHUNK], again=True)

    assert redis.get(KEYS.result(TASK)) == result
    assert redis.get(KEYS.blob(TASK)) == b"content"

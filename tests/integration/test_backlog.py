"""What Redis says of the work that waits, against a real one."""

import base64
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from lowtide.autoscaling.signal.backlog import Backlog, BacklogReader, State
from lowtide.config import load_settings
from lowtide.tasks.app import configure
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.moves import Moves
from lowtide.tasks.held.room import Budget, Turns
from lowtide.tasks.held.sweeper import QUIET_S
from lowtide.tasks.infer import infer, infer_chunk
from lowtide.tasks.queues import CHUNK_COUNT_HEADER, SENT_AT_HEADER, topic_queue
from lowtide.tasks.redis.keys import Keys
from tests.fleet import READY_S, Fleet

KEYS = Keys("fleet:")
CALLERS = Keys("")
"""A process has one Celery app, whose prefix stays what it first was: other tests call from this process too."""
MODELS = ("digits", "resnet101")
DIGIT = Path(__file__).parents[2] / "examples/digits/images/0001.png"


@pytest.fixture
def reader(redis: Redis) -> BacklogReader:
    return BacklogReader(redis, KEYS, MODELS)


def total(backlog: Backlog) -> int:
    return sum(backlog.requests.values())


def chunk(requests: int | None, *, body: str = "x", sent_at: float | None = None) -> str:
    headers: dict[str, Any] = {"id": str(uuid.uuid4())}
    headers |= {CHUNK_COUNT_HEADER: requests} if requests is not None else {}
    headers |= {SENT_AT_HEADER: sent_at} if sent_at is not None else {}
    return json.dumps({"body": body, "headers": headers, "properties": {"delivery_tag": str(uuid.uuid4())}})


def push(redis: Redis, queue: str, *chunks: str) -> None:
    redis.lpush(KEYS.queue(queue), *chunks)


def take(redis: Redis, queue: str, messages: int, *, by: str = "0a") -> None:
    """As a worker does."""
    Heartbeat(redis, KEYS, kind="worker", name=by).beat()
    taken = Moves(redis, KEYS).take(
        by, queues=[queue], seconds=[0.0], budget=Budget(messages=messages, work_s=1.0), turns=Turns(0.1)
    )
    assert taken is not None
    assert len(taken.messages) == messages


def age(redis: Redis, by_s: float, keys: Keys = KEYS) -> None:
    """As if no worker had been heard of for so long."""
    for worker, beat in redis.zrange(keys.workers, 0, -1, withscores=True):
        redis.zadd(keys.workers, {worker: beat - by_s})


def test_an_empty_redis_has_zero_of_everything(reader: BacklogReader) -> None:
    assert reader.read().requests == {(model, state): 0 for model in MODELS for state in State}


def test_requests_are_counted_in_all_queues_of_the_fleet_and_in_no_others(redis: Redis, reader: BacklogReader) -> None:
    push(redis, "lowtide.digits", chunk(None), chunk(3))
    push(redis, "lowtide.digits.high", chunk(4))
    push(redis, "lowtide.digits\x06\x166", chunk(5))
    push(redis, "lowtide.resnet101.topic", chunk(256))
    push(redis, "lowtide.another", chunk(9))
    redis.lpush("lowtide.digits", chunk(9))  # without the prefix: another fleet's

    assert reader.read().by_model == {"digits": 13, "resnet101": 256}


def test_what_a_python_caller_sent_is_counted(redis_url: str, redis: Redis) -> None:
    configure(load_settings(redis_url=redis_url, models=MODELS))
    reader = BacklogReader(redis, CALLERS, MODELS)
    before = time.time()
    for _ in range(3):
        infer.delay({"model": "digits", "data": ""})

    backlog = reader.read()
    assert backlog.requests["digits", State.QUEUED] == 3
    assert backlog.oldest_at is not None
    assert before - 0.001 <= backlog.oldest_at <= time.time()


def test_the_oldest_is_told_wherever_it_is(redis: Redis, reader: BacklogReader) -> None:
    assert reader.read().oldest_at is None
    push(redis, "lowtide.digits", chunk(None))
    assert reader.read().oldest_at is None, "nobody says since when"

    queue = topic_queue("digits")
    push(redis, queue, chunk(7, sent_at=1_780_000_000.125), *(chunk(7, sent_at=1_780_000_100.5) for _ in range(100)))
    push(redis, "lowtide.digits", chunk(7, sent_at=1_780_000_050.0))
    assert reader.read().oldest_at == 1_780_000_000.125
    take(redis, queue, 1)
    assert reader.read().oldest_at == 1_780_000_000.125, "a worker has it now"
    age(redis, QUIET_S + 1)
    assert reader.read().oldest_at == 1_780_000_000.125, "a dead one has it"
    redis.delete(KEYS.held("0a"))
    assert reader.read().oldest_at == 1_780_000_050.0


def test_what_a_worker_took_is_held_and_what_a_dead_one_took_is_left_behind(
    redis: Redis, reader: BacklogReader
) -> None:
    queue = topic_queue("digits")
    push(redis, queue, *(chunk(7) for _ in range(5)))
    take(redis, queue, 2)
    age(redis, QUIET_S + 1)
    take(redis, queue, 3, by="0b")

    backlog = reader.read()
    assert redis.llen(KEYS.queue(queue)) == 0
    assert backlog.requests["digits", State.HELD] == 21
    assert backlog.requests["digits", State.LEFT_BEHIND] == 14
    assert (backlog.chunks, total(backlog)) == (5, 35)


def test_with_everything_at_a_dead_worker_nothing_is_missed(redis: Redis, reader: BacklogReader) -> None:
    queue = topic_queue("resnet101")
    push(redis, queue, *(chunk(256) for _ in range(8)))
    take(redis, queue, 8)
    age(redis, QUIET_S + 1)

    assert reader.read().requests["resnet101", State.LEFT_BEHIND] == 8 * 256


def test_what_a_killed_worker_held_is_counted_on(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    digit = base64.b64encode(DIGIT.read_bytes()).decode()
    configure(load_settings(redis_url=redis_url, models=MODELS))
    reader = BacklogReader(redis, CALLERS, MODELS)
    for _ in range(40):
        infer_chunk.delay([{"model": "digits", "data": digit}] * 256)
    assert total(reader.read()) == 40 * 256
    env = {"LOWTIDE_REDIS_URL": redis_url, "LOWTIDE_PROJECT": "none"}
    fleet = Fleet({**env, "LOWTIDE_DEVICE": "cpu"}, tmp_path)
    fleet.start("worker", "worker")
    try:
        until_s = time.monotonic() + READY_S
        while not reader.read().chunks:
            assert time.monotonic() < until_s, fleet.log("worker")
        fleet.kill("worker")
    finally:
        fleet.stop()

    held = redis.hlen(CALLERS.holders)
    left = held + redis.llen(CALLERS.queue("lowtide.digits"))
    assert 0 < held <= left <= 40
    assert total(reader.read()) == left * 256
    age(redis, QUIET_S + 1, CALLERS)
    backlog = reader.read()
    assert backlog.requests["digits", State.LEFT_BEHIND] == held * 256
    assert (backlog.requests["digits", State.HELD], total(backlog)) == (0, left * 256)


def test_who_holds_nothing_is_no_work(redis: Redis, reader: BacklogReader) -> None:
    redis.zadd(KEYS.workers, {"0a": time.time(), "0b": 0.0})

    assert total(reader.read()) == 0


def test_what_many_workers_hold_is_estimated_over_all_of_them(redis: Redis, reader: BacklogReader) -> None:
    for number in range(40):
        queue = topic_queue(MODELS[number % 2])
        push(redis, queue, *(chunk(7 + 14 * (number % 2)) for _ in range(10)))
        take(redis, queue, 10, by=f"{number:x}")

    backlog = reader.read()
    assert backlog.chunks == 400
    assert backlog.by_model == {"digits": pytest.approx(1400, rel=0.1), "resnet101": pytest.approx(4200, rel=0.1)}


def test_a_long_queue_is_estimated_from_both_ends(redis: Redis, reader: BacklogReader) -> None:
    push(redis, "lowtide.digits", *(chunk(1 + number % 20) for number in range(10_000)))

    assert total(reader.read()) == pytest.approx(105_000, rel=0.1)


def test_large_messages_are_not_all_read(redis: Redis, reader: BacklogReader) -> None:
    push(redis, "lowtide.digits", *(chunk(2, body="x" * 400_000) for _ in range(40)))
    before = (
        redis.info("commandstats")["cmdstat_lindex"]["calls"] if "cmdstat_lindex" in redis.info("commandstats") else 0
    )

    assert total(reader.read()) == 80
    assert redis.info("commandstats")["cmdstat_lindex"]["calls"] - before == 3


def test_with_many_models_the_bytes_of_all_queues_together_are_bounded(redis: Redis) -> None:
    models = [f"model-{number}" for number in range(12)]
    for model in models:
        push(redis, topic_queue(model), *(chunk(3, body="x" * 2_000_000) for _ in range(2)))
    take(redis, topic_queue("model-11"), 1)
    reader = BacklogReader(redis, KEYS, models)
    redis.config_resetstat()

    backlog = reader.read()
    assert redis.info("commandstats")["cmdstat_lindex"]["calls"] == 5  # the fifth is the one that goes over 8 MiB
    assert backlog.requests["model-0", State.QUEUED] == backlog.requests["model-10", State.QUEUED] == 6
    assert (backlog.requests["model-11", State.QUEUED], backlog.requests["model-11", State.HELD]) == (3, 3)
    assert total(backlog) == 72


def test_messages_that_are_none_of_kombus_count_as_one(redis: Redis, reader: BacklogReader) -> None:
    push(redis, "lowtide.digits", "garbage", '{"headers": {"lowtide-n": "many", "lowtide-at": null}}')
    redis.zadd(KEYS.workers, {"0a": time.time()})
    redis.hset(KEYS.held("0a"), "tag", "garbage")

    backlog = reader.read()
    assert backlog.by_model == {"digits": 2, "resnet101": 0}
    assert backlog.oldest_at is None

"""Tasks that are not due: where they are meanwhile, and what they keep from nobody. Redis' clock is the real one."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from lowtide.autoscaling.signal.backlog import BacklogReader, State
from lowtide.tasks.held.moves import ASIDE_MAX_MESSAGES, Moves, due_lua
from lowtide.tasks.held.room import TAKE_MAX_BYTES, Budget, Turns
from lowtide.tasks.queues import lists_of
from lowtide.tasks.redis.keys import Keys

KEYS = Keys("fleet:")
QUEUE = "lowtide.m"
WORKER, OTHER = "0a", "0b"
LATER, LONG_AGO = b"2999", b"1999"


@pytest.fixture
def redis(redis: Redis) -> Redis:
    redis.zadd(KEYS.workers, {WORKER: time.time(), OTHER: time.time()})
    return redis


@pytest.fixture
def moves(redis: Redis) -> Moves:
    return Moves(redis, KEYS)


@pytest.fixture
def reader(redis: Redis) -> BacklogReader:
    return BacklogReader(redis, KEYS, ["m"])


def message(task: str, *, eta: str | None = None, body: str = "e30=", **headers: Any) -> bytes:
    properties = {"delivery_tag": str(uuid.uuid4()), "delivery_info": {"exchange": "", "routing_key": QUEUE}}
    return json.dumps({"body": body, "headers": {"id": task, "eta": eta, **headers}, "properties": properties}).encode()


def after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def push(redis: Redis, *messages: bytes, queue: str = QUEUE) -> None:
    redis.lpush(KEYS.queue(queue), *messages)


def take(moves: Moves, *, messages: int = 64, worker: str = WORKER, **options: int) -> list[bytes]:
    budget, queues = Budget(messages=messages, work_s=1.0), ["lowtide.m.high", QUEUE]
    taken = moves.take(worker, queues=queues, seconds=[0.001] * 2, budget=budget, turns=Turns(0.1), **options)
    assert taken is not None
    return [item.raw for item in taken.messages]


def later(seconds: int = 0) -> str:
    """An eta that has not come, and that `fall_due` makes one of long ago."""
    return f"{LATER.decode()}-01-01T00:00:{seconds:02}+00:00"


def fallen(sent: bytes) -> bytes:
    return sent.replace(LATER, LONG_AGO)


def fall_due(redis: Redis) -> None:
    """As if the time had come for all that is scheduled."""
    for entry, due in redis.zrange(KEYS.scheduled, 0, -1, withscores=True):
        redis.zrem(KEYS.scheduled, entry)
        redis.zadd(KEYS.scheduled, {fallen(entry): due - 40e9})


SPELLINGS = [
    "2027-02-03T04:05:06.789012+00:00",
    "2027-02-03T04:05:06.789012",
    "2027-02-03T04:05:06Z",
    "2027-02-03T04:05:06.5Z",
    "2027-02-03 04:05:06+05:30",
    "2027-02-03T04:05:06.25-08:00",
    "2027-02-03T04:05:06-0345",
    "2028-02-29T23:59:59.999999+14:00",
    "2000-03-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "2100-12-31T00:00:00+01:00",
    "9999-12-31T23:59:59+00:00",
]


@pytest.mark.parametrize("eta", SPELLINGS)
def test_when_a_task_is_due_is_what_python_says(redis: Redis, eta: str) -> None:
    said = datetime.fromisoformat(eta)
    said = said if said.tzinfo else said.replace(tzinfo=UTC)
    due = redis.eval(due_lua() + "return string.format('%.6f', due_at(ARGV[1]))", 0, message("a", eta=eta))
    assert float(due) == pytest.approx(said.timestamp(), abs=1e-5)


@pytest.mark.parametrize(
    "eta", [None, "", "tomorrow", "2027-02-30T25:00:00", "2027-13-01T00:00:00Z", "20270203T040506Z", 5, ["x"], {"y": 1}]
)
def test_what_only_celery_can_read_is_left_to_it(redis: Redis, moves: Moves, eta: Any) -> None:
    sent = message("a", eta=eta)
    push(redis, sent)
    assert take(moves) == [sent]


@pytest.mark.parametrize(
    "raw",
    [
        lambda eta: json.dumps({"headers": {"id": "a", "eta": eta}, "properties": {}}, separators=(",", ":")),
        lambda eta: json.dumps({"headers": {"id": "a", "eta": eta}, "properties": {}}, indent=1),
        lambda eta: json.dumps({"headers": {"stamp": {"eta": None}, "eta": eta}, "properties": {}}),
        lambda eta: json.dumps({"body": json.dumps({"eta": after(-9)}), "headers": {"eta": eta}, "properties": {}}),
        lambda eta: json.dumps({"body": "\u00e4\u0000", "headers": {"eta": eta}}, ensure_ascii=False),
    ],
    ids=["compact", "spread", "another eta", "eta in the body", "odd characters"],
)
def test_a_task_that_is_not_due_is_recognized_and_comes_back_byte_for_byte(
    redis: Redis, moves: Moves, raw: Any
) -> None:
    sent = raw(later()).encode()
    push(redis, sent)
    assert take(moves) == []
    assert (redis.zcard(KEYS.scheduled), redis.hlen(KEYS.holders)) == (1, 0)
    fall_due(redis)
    assert take(moves) == [fallen(sent)]
    assert not redis.exists(KEYS.scheduled)


def test_what_is_not_due_takes_no_room_and_stands_in_nobodys_way(redis: Redis, moves: Moves) -> None:
    push(redis, *(message(f"later-{number}", eta=later()) for number in range(200)), message("now"))
    assert [json.loads(raw)["headers"]["id"] for raw in take(moves, messages=1)] == ["now"]
    assert redis.zcard(KEYS.scheduled) == 200
    assert (redis.hlen(KEYS.held(WORKER)), redis.hkeys(KEYS.holders)) == (1, [b"now"])


def test_a_task_is_taken_when_it_is_due_and_not_before(redis: Redis, moves: Moves) -> None:
    due = time.time() + 0.3
    sent = message("a", eta=datetime.fromtimestamp(due, timezone(timedelta(hours=-8))).isoformat())
    push(redis, sent)
    while not (taken := take(moves)):
        assert time.time() < due + 30
    assert (taken, time.time() >= due) == ([sent], True)


def test_what_was_due_before_it_was_sent_is_taken_at_once(redis: Redis, moves: Moves) -> None:
    sent = message("a", eta=after(-0.001))
    push(redis, sent)
    assert take(moves) == [sent]


def test_what_falls_due_overtakes_nobody_and_keeps_its_order(redis: Redis, moves: Moves) -> None:
    push(redis, message("second", eta=later(5)), message("first", eta=later(4)))
    assert take(moves) == []
    push(redis, message("before"))
    fall_due(redis)
    assert [json.loads(raw)["headers"]["id"] for raw in take(moves)] == ["before", "first", "second"]


def test_a_task_comes_back_to_the_very_list_it_was_in_whoever_takes(redis: Redis, moves: Moves) -> None:
    redis.lpush(KEYS.queue(lists_of("lowtide.other")[7]), sent := message("a", eta=later()))
    Moves(redis, KEYS).take(
        OTHER, queues=["lowtide.other"], seconds=[0.0], budget=Budget(messages=1, work_s=1), turns=Turns(0.1)
    )
    fall_due(redis)
    assert take(moves) == []
    assert redis.lrange(KEYS.queue(lists_of("lowtide.other")[7]), 0, -1) == [fallen(sent)]


def test_what_is_due_behind_many_that_are_not_is_taken_at_once(redis: Redis, moves: Moves) -> None:
    many = 3 * ASIDE_MAX_MESSAGES
    push(redis, *(message(str(number), eta=later()) for number in range(many)), sent := message("due"))
    assert (take(moves), redis.zcard(KEYS.scheduled)) == ([sent], many)


def test_one_step_of_a_take_sets_aside_and_brings_back_only_so_much(redis: Redis, moves: Moves) -> None:
    many = ASIDE_MAX_MESSAGES + 10
    push(redis, *(message(str(number), eta=later()) for number in range(many)))
    assert (take(moves, steps=1), redis.zcard(KEYS.scheduled)) == ([], ASIDE_MAX_MESSAGES)
    assert (take(moves, steps=1), redis.zcard(KEYS.scheduled)) == ([], many)
    fall_due(redis)
    assert (len(take(moves, steps=1)), redis.zcard(KEYS.scheduled)) == (64, 10)

    redis.delete(KEYS.scheduled, KEYS.held(WORKER), KEYS.queue(QUEUE))
    push(redis, *(message(str(number), eta=later(), body="x" * (TAKE_MAX_BYTES // 2)) for number in range(4)))
    assert (take(moves, steps=1), redis.zcard(KEYS.scheduled)) == ([], 2)


def test_only_what_is_due_is_work(redis: Redis, moves: Moves, reader: BacklogReader) -> None:
    early = time.time() - 3600
    push(redis, message("later", eta=later(), **{"lowtide-n": 5, "lowtide-at": early}), message("now"))
    backlog = reader.read()
    assert (backlog.by_model, backlog.scheduled, backlog.oldest_at) == ({"m": 1}, 1, None), (
        "nobody has looked at it yet"
    )

    take(moves)
    backlog = reader.read()
    assert (backlog.requests["m", State.QUEUED], backlog.scheduled) == (0, 1)
    assert (backlog.requests["m", State.HELD], backlog.chunks) == (1, 1)

    fall_due(redis)
    backlog = reader.read()
    assert (backlog.requests["m", State.QUEUED], backlog.scheduled) == (5, 0), "though nobody has brought it back yet"


def test_a_task_waits_since_it_fell_due_and_not_since_it_was_sent(redis: Redis, reader: BacklogReader) -> None:
    due = datetime.now(UTC) - timedelta(seconds=5)
    push(redis, message("a", eta=due.isoformat(), **{"lowtide-n": 1, "lowtide-at": time.time() - 3600}))
    assert reader.read().oldest_at == pytest.approx(due.timestamp(), abs=0.01)


def test_what_a_worker_finds_out_is_not_due_goes_aside_as_not_begun(redis: Redis, moves: Moves) -> None:
    sent = message("a", eta="20270203T040506Z")
    push(redis, sent)
    tag = json.loads(take(moves)[0])["properties"]["delivery_tag"]
    assert not moves.postpone(WORKER, tag, due=time.time() - 1)
    assert redis.hlen(KEYS.holders) == 1
    assert moves.postpone(WORKER, tag, due=time.time() + 60)
    assert moves.held_by(WORKER) == []
    assert not redis.exists(KEYS.holders)
    fall_due(redis)
    assert take(moves) == [sent]
    assert not redis.keys(KEYS.loss("*"))


def test_what_another_holds_by_now_is_not_set_aside(redis: Redis, moves: Moves) -> None:
    push(redis, message("a"))
    tag = json.loads(take(moves, worker=OTHER)[0])["properties"]["delivery_tag"]
    assert moves.postpone(WORKER, tag, due=time.time() + 60)
    assert (moves.held_by(OTHER), redis.exists(KEYS.scheduled)) == ([tag], 0)


def test_a_full_redis_goes_on_with_tasks_that_are_not_due(redis: Redis, moves: Moves) -> None:
    push(redis, message("a", eta=later()), message("b", eta="20270203T040506Z"))
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            redis.set("any", "value")
        [raw] = take(moves)
        assert moves.postpone(WORKER, json.loads(raw)["properties"]["delivery_tag"], due=time.time() + 60)
        assert redis.zcard(KEYS.scheduled) == 2
        redis.config_set("maxmemory", 0)
        fall_due(redis)
        redis.config_set("maxmemory", 1)
        assert len(take(moves)) == 2
    finally:
        redis.config_set("maxmemory", 0)

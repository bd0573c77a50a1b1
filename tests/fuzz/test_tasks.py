"""Whatever lies in a queue's lists is taken, set aside and given back without losing a byte of what could be a task."""

import json
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from lowtide.autoscaling.signal.backlog import BacklogReader
from lowtide.config import Settings
from lowtide.tasks.held.moves import Moves, Taken
from lowtide.tasks.held.room import Budget, Turns
from lowtide.tasks.queues import lists_of
from lowtide.tasks.redis.keys import Keys
from lowtide.workers.consumer.intake import Intake
from lowtide.workers.consumer.session import WorkerSession

KEYS = Keys("fuzz:")
WORKER = "0a"
QUEUES = ["lowtide.m.high", "lowtide.m", "lowtide.m.topic"]
LISTS = [KEYS.queue(name) for queue in QUEUES for name in lists_of(queue)]

texts = st.text(max_size=8) | st.sampled_from(["", "0x10", "nan", "\x00", "\ud800", '"', "\\", "\n"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
names = st.sampled_from(
    ["id", "eta", "delivery_tag", "lowtide-n", "lowtide-at", "headers", "properties", "redelivered"]
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
times = st.datetimes().map(lambda at: at.isoformat()) | st.sampled_from(
    ["2999-01-01T00:00:00+00:00", "2999-01-01 00:00:00-08:00", "1999-01-01T00:00:00Z", "29990101T000000Z", "2999-13-01"]
)
tags = st.uuids().map(str) | st.sampled_from(["t", "u"]) | values
messages = st.fixed_dictionaries(
    {
        "body": texts,
        "headers": st.fixed_dictionaries(
            {"id": texts, "eta": st.none() | times | values}, optional={"lowtide-n": values, "lowtide-at": values}
        )
        | values,
        "properties": st.fixed_dictionaries({"delivery_tag": tags, "delivery_info": st.just({}) | values}) | values,
    },
    optional={"x": values},
)
spellings = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 1]),
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([None, (",", ":")]),
    }
)


def spelled(message: Any, how: dict[str, Any]) -> bytes:
    return json.dumps(message, **how).encode(errors="surrogatepass")


wholes = st.builds(spelled, messages | values, spellings)
hurt = st.builds(
    lambda raw, at, byte: raw[: at % (len(raw) + 1)] + byte + raw[at % (len(raw) + 1) + 1 :],
    wholes,
    st.integers(min_value=0),
    st.binary(max_size=1),
)
pushed = st.lists(st.tuples(st.sampled_from(LISTS), wholes | hurt | st.binary(min_size=1, max_size=9)), max_size=4)


@pytest.fixture(scope="module")
def redis(redis_server: Any) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as redis:
        yield redis
        redis.flushall()


@pytest.fixture(scope="module")
def moves(redis: Redis) -> Moves:
    return Moves(redis, KEYS)


def push(redis: Redis, sent: list[tuple[str, bytes]]) -> None:
    with redis.pipeline(transaction=False) as pipe:
        pipe.flushall()
        for name, raw in sent:
            pipe.lpush(name, raw)
        pipe.zadd(KEYS.workers, {WORKER: 1.0})
        pipe.execute()


def taken(moves: Moves) -> list[Taken]:
    """Everything that is there to take."""
    found = []
    while took := moves.take(
        WORKER, queues=QUEUES, seconds=[0.0] * 3, budget=Budget(messages=2, work_s=1.0), turns=Turns(0.1)
    ):
        if not took.messages:
            break
        found += took.messages
    return found


def everywhere(redis: Redis) -> Counter[tuple[str, bytes]]:
    """What lies in the lists: list, message."""
    with redis.pipeline(transaction=False) as pipe:
        for name in LISTS:
            pipe.lrange(name, 0, -1)
        return Counter((name, raw) for name, found in zip(LISTS, pipe.execute(), strict=True) for raw in found)


def entries(held: list[bytes], *, task: bool = False) -> Counter[tuple[str, bytes]]:
    """List, message; in between there may be the `task`."""
    split = (entry.split(b"\n", 1 + task) for entry in held)
    return Counter((name.decode(), raw) for name, *_, raw in split)


@pytest.fixture(scope="module")
def session(redis_server: Any) -> WorkerSession:
    settings = Settings(redis_url=redis_server.url, prefix="fuzz:")
    heartbeat: Any = SimpleNamespace(incarnation=WORKER)
    return WorkerSession(settings=settings, heartbeat=heartbeat, predecessor=None, seconds_per_request=lambda _: 1.0)


@given(pushed)
def test_whatever_is_taken_or_set_aside_is_whole_and_goes_back_to_its_list(
    redis: Redis, moves: Moves, sent: list[tuple[str, bytes]]
) -> None:
    push(redis, sent)
    reader = BacklogReader(redis, KEYS, ["m"])
    reader.read()

    found = taken(moves)
    assert not everywhere(redis)
    held = entries(redis.hvals(KEYS.held(WORKER)), task=True)
    aside = entries(redis.zrange(KEYS.scheduled, 0, -1))
    assert Counter(item.raw for item in found) == Counter(raw for _, raw in held.elements())
    assert len({item.tag for item in found}) == len(found), "each has a name of its own"
    assert all(1 <= item.requests <= 1e6 for item in found)
    # Of what is not due, one is enough of messages that are the same to the last byte: they are one task.
    assert held | aside == Counter({entry: 1 if entry in aside else count for entry, count in Counter(sent).items()})
    reader.read()

    moves.hand_back(WORKER, [item.tag for item in found])
    assert everywhere(redis) == held
    assert not redis.exists(KEYS.held(WORKER), KEYS.holders)


@given(pushed)
def test_a_worker_ends_whatever_it_takes_and_raises_nothing(
    redis: Redis, moves: Moves, session: WorkerSession, sent: list[tuple[str, bytes]]
) -> None:
    push(redis, sent)
    delivered: list[str] = []
    connection = SimpleNamespace(
        _deliver=lambda message, queue: delivered.append(message["properties"]["delivery_tag"])
    )
    qos = SimpleNamespace(ack=lambda tag: session.ledger.release(tag, done=True))
    channel = SimpleNamespace(session=session, connection=connection, no_ack_queues=frozenset(), qos=qos)
    Intake(channel)._deliver_all(taken(moves))
    for tag in delivered:
        session.ledger.release(tag, done=True)
    session.flush()
    assert not redis.exists(KEYS.held(WORKER), KEYS.holders)
    assert session.ledger.work_s(lambda _: 1.0) == 0

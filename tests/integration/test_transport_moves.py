"""The atomic moves, against every Redis server of this machine."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection
from redis import Redis
from redis.exceptions import OutOfMemoryError

from lowtide.config import load_settings
from lowtide.local.redis import redis_servers
from lowtide.tasks.app import celery_config
from lowtide.tasks.keys import Keys
from lowtide.tasks.queues import lists_of
from lowtide.tasks.transport.ledger import Held
from lowtide.tasks.transport.moves import Moves, Taken
from lowtide.tasks.transport.room import TAKE_MAX_BYTES, Budget, Turns
from lowtide.tasks.transport.station import Station
from tests.integration.transport_fleet import PREFIX, Server, server_of

SERVERS = redis_servers()
KEYS = Keys(PREFIX)
QUEUES = ["lowtide.m.high", "lowtide.m", "lowtide.m.topic"]


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(SERVERS[request.param], tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(server: Server) -> Redis:
    server.redis.flushall()
    return server.redis


@pytest.fixture
def moves(redis: Redis) -> Moves:
    return Moves(redis, KEYS)


def message(task: str = "t", *, priority: int = 0, body: str = "x", **headers: Any) -> dict[str, Any]:
    return {
        "body": body,
        "headers": {"id": task, **headers},
        "properties": {"priority": priority, "delivery_tag": str(uuid.uuid4()), "delivery_info": {"exchange": ""}},
    }


def push(redis: Redis, queue: str, *messages: dict[str, Any] | bytes) -> None:
    for item in messages:
        redis.lpush(KEYS.queue(queue), item if isinstance(item, bytes) else json.dumps(item))


def take(
    moves: Moves, *, messages: int = 64, work_s: float = 1.0, seconds: float = 0.001, **options: Any
) -> list[Taken]:
    queues = options.pop("queues", QUEUES)
    budget = Budget(messages=messages, work_s=work_s)
    turns = options.pop("turns", None) or Turns(0.1)
    return moves.take("w:0", queues=queues, seconds=[seconds] * len(queues), budget=budget, turns=turns)


def tasks(taken: list[Taken]) -> list[str]:
    return [json.loads(item.raw)["headers"]["id"] for item in taken]


def state(redis: Redis) -> tuple[int, int, int]:
    return redis.hlen(KEYS.unacked), redis.zcard(KEYS.unacked_index), redis.zcard(KEYS.held("w:0"))


def test_a_take_leaves_what_it_took_in_unacked(redis: Redis, moves: Moves) -> None:
    sent = message("a")
    push(redis, "lowtide.m", sent)
    [taken] = take(moves)
    tag = sent["properties"]["delivery_tag"]
    assert (taken.queue, taken.tag, taken.requests, json.loads(taken.raw)) == ("lowtide.m", tag, 1, sent)
    assert redis.hget(KEYS.unacked, tag) == b"%s\n%s" % (KEYS.queue("lowtide.m").encode(), taken.raw)
    seconds, microseconds = redis.time()
    assert seconds + microseconds / 1e6 - redis.zscore(KEYS.unacked_index, tag) < 1
    assert redis.zscore(KEYS.held("w:0"), tag) == redis.zscore(KEYS.unacked_index, tag)
    moves.acknowledge("w:0", [tag])
    assert state(redis) == (0, 0, 0)


def test_what_neighbours_hold_is_theirs_and_what_we_hold_is_ours(server: Server, redis: Redis, moves: Moves) -> None:
    options = celery_config(load_settings(redis_url=server.url, prefix=PREFIX))["broker_transport_options"]
    with Connection(server.url, transport_options={**options, "visibility_timeout": 0}) as connection:
        with connection.SimpleQueue("celery") as queue:
            queue.put("theirs")
            theirs = queue.get(timeout=5)
            assert (moves.look(), moves.held_by("w:0")) == ({}, [])

            push(redis, "lowtide.m", message("ours"))
            [ours] = take(moves)
            connection.default_channel.qos.restore_visible(num=None, interval=1)  # as any stock worker does
            assert list(moves.look()) == [ours.tag]
            theirs.ack()
        assert moves.reap(theirs.delivery_tag, None) == 0
    assert redis.llen(KEYS.queue("lowtide.m")) == 0


def test_high_comes_first_then_the_others_in_turn(redis: Redis, moves: Moves) -> None:
    for queue in reversed(QUEUES):
        push(redis, queue, *(message(f"{queue}-{number}") for number in range(2)))
    assert tasks(take(moves, seconds=0.1)) == [
        *(
            "lowtide.m.high-0",
            "lowtide.m.high-1",
            "lowtide.m-0",
            "lowtide.m.topic-0",
            "lowtide.m-1",
            "lowtide.m.topic-1",
        )
    ]


def test_a_queue_has_its_turn_until_a_chunk_of_work_is_spent(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", *(message(f"single-{number}") for number in range(9)))
    push(redis, "lowtide.m.topic", *(message(f"chunk-{number}", **{"lowtide-n": 4}) for number in range(3)))
    taken = tasks(take(moves, seconds=2**-5, work_s=0.5, turns=Turns(2**-3)))
    assert [name.partition("-")[0] for name in taken] == [*["single"] * 4, "chunk", *["single"] * 4, "chunk"]


def test_every_priority_list_is_taken_and_gets_back_what_was_in_it(redis: Redis, moves: Moves) -> None:
    for step in reversed(range(10)):
        push(redis, lists_of("lowtide.m")[step], message(str(step), priority=9 - step))
    taken = take(moves)
    assert tasks(taken) == [str(step) for step in range(10)]
    assert moves.give_back("w:0", [item.tag for item in taken]) == 10
    assert [redis.llen(KEYS.queue(name)) for name in lists_of("lowtide.m")] == [1] * 10
    assert tasks(take(moves)) == [str(step) for step in range(10)]


@pytest.mark.parametrize(("limits", "count"), [({"messages": 3}, 3), ({"work_s": 0.0025}, 3), ({"work_s": 1e-9}, 1)])
def test_a_take_stops_at_its_budget(redis: Redis, moves: Moves, limits: dict[str, Any], count: int) -> None:
    push(redis, "lowtide.m", *(message(str(number)) for number in range(9)))
    assert len(take(moves, **limits)) == count


def test_a_take_is_bounded_in_bytes(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", *(message(str(number), body="x" * (TAKE_MAX_BYTES // 2)) for number in range(4)))
    assert len(take(moves)) == 2


@pytest.mark.parametrize(
    "raw",
    [
        lambda sent: json.dumps(sent, separators=(",", ":")),
        lambda sent: json.dumps({**sent, "body": '{"delivery_tag": "body", "lowtide-n": 9}'}),
        lambda sent: json.dumps({"properties": sent["properties"], "headers": sent["headers"]}, indent=1),
        lambda sent: json.dumps({**sent, "headers": {**sent["headers"], "z": {"delivery_tag": "no", "lowtide-n": 9}}}),
        lambda sent: json.dumps({"headers": {"a": {"delivery_tag": 5, "lowtide-n": "x"}, **sent["headers"]}, **sent}),
    ],
    ids=["compact", "names in the body", "another order", "nested after", "nested before"],
)
def test_tag_and_count_are_read_from_any_json(redis: Redis, moves: Moves, raw: Any) -> None:
    sent = message("a", **{"lowtide-n": 7})
    push(redis, "lowtide.m", raw(sent).encode())
    [taken] = take(moves)
    assert (taken.tag, taken.requests) == (sent["properties"]["delivery_tag"], 7)


def test_what_is_no_message_gets_a_name_and_does_not_block_the_queue(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", b"garbage", b'{"headers": {"lowtide-n": null}, "properties": null}', message("after"))
    assert [item.requests for item in take(moves)] == [1, 1, 1]
    assert state(redis) == (3, 3, 3)


def test_what_goes_back_is_served_first_in_its_old_order(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", *(message(str(number)) for number in range(5)))
    taken = take(moves, messages=3)
    assert moves.give_back("w:0", [item.tag for item in taken]) == 3
    again = take(moves)
    assert tasks(again) == ["0", "1", "2", "3", "4"]
    assert json.loads(again[0].raw)["properties"]["delivery_info"]["redelivered"] is True
    assert json.loads(again[0].raw)["headers"]["redelivered"] is True
    assert not redis.exists(KEYS.loss("0"))


def test_giving_back_twice_takes_nothing_from_the_next_holder(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"))
    [taken] = take(moves)
    score = redis.zscore(KEYS.unacked_index, taken.tag)
    assert moves.reap(taken.tag, score) == 1
    budget = Budget(messages=1, work_s=1)
    moves.take("w:1", queues=QUEUES, seconds=[0, 0, 0], budget=budget, turns=Turns(0.1))
    assert moves.give_back("w:0", [taken.tag]) == 0
    assert moves.give_back("w:0", [taken.tag]) == 0
    assert state(redis) == (1, 1, 0)
    assert moves.give_back("w:1", [taken.tag]) == 1


def test_what_can_not_go_back_because_its_list_is_something_else_stays_and_goes_back_later(
    redis: Redis, moves: Moves
) -> None:
    push(redis, "lowtide.m", message("a"))
    [taken] = take(moves)
    redis.set(KEYS.queue("lowtide.m"), "x")
    assert moves.give_back("w:0", [taken.tag]) == 0
    redis.delete(KEYS.queue("lowtide.m"))

    assert moves.reap(taken.tag, redis.zscore(KEYS.unacked_index, taken.tag)) == 1
    assert tasks(take(moves)) == ["a"]


def test_what_a_take_has_popped_before_it_fails_goes_back_with_the_next_turn_and_is_no_loss(
    server: Server, redis: Redis
) -> None:
    settings = load_settings(redis_url=server.url, prefix=PREFIX)
    station = Station(settings=settings, worker="w:0", seconds_per_request=lambda _: 0.0)
    station.connected()
    push(redis, "lowtide.m", message("a"))
    redis.set(KEYS.queue("lowtide.n"), "x")
    taken: list[Taken] = []

    def serve() -> None:
        taken.extend(station.take(["lowtide.m", "lowtide.n"], prefetch=0))

    station.turn(serve)
    assert (taken, state(redis)) == ([], (1, 1, 1))
    redis.delete(KEYS.queue("lowtide.n"))
    station._not_before = 0.0  # a second is over

    station.turn(serve)
    assert tasks(taken) == ["a"]
    assert not redis.exists(KEYS.loss("a"))


def test_a_touch_renews_what_is_held_and_revives_nothing(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"), message("b"))
    held = [
        Held(tag=item.tag, task=json.loads(item.raw)["headers"]["id"], model="m", requests=1) for item in take(moves)
    ]
    moves.acknowledge("w:0", [held[1].tag])
    before = redis.zscore(KEYS.unacked_index, held[0].tag)
    assert moves.touch("w:0", held) == 1
    after = redis.zscore(KEYS.unacked_index, held[0].tag)
    assert after > before
    assert redis.zscore(KEYS.held("w:0"), held[0].tag) == after
    assert state(redis) == (1, 1, 1)
    assert 0 < redis.ttl(KEYS.run("a")) <= 30


def test_a_full_redis_can_still_be_drained(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"), message("b"))
    first = take(moves, messages=1)[0]
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            redis.set("any", "value")
        second = take(moves)[0]
        held = [Held(tag=item.tag, task="t", model="m", requests=1) for item in (first, second)]
        assert moves.touch("w:0", held) == 2
        assert moves.give_back("w:0", [first.tag], lost=True) == 1
        moves.acknowledge("w:0", [second.tag])
    finally:
        redis.config_set("maxmemory", 0)
    assert state(redis) == (0, 0, 0)


def test_nothing_is_written_outside_the_prefix(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"), message("b"))
    taken = take(moves)
    moves.touch("w:0", [Held(tag=taken[0].tag, task="a", model="m", requests=1)])
    moves.give_back("w:0", [taken[0].tag], lost=True)
    assert all(key.startswith(PREFIX.encode()) for key in redis.keys("*"))

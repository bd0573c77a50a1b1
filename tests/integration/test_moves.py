"""The atomic moves, against every Redis server of this machine."""

import json
import uuid
from typing import Any

import pytest
from kombu import Connection
from redis import Redis
from redis.exceptions import OutOfMemoryError

from lowtide.config import load_settings
from lowtide.tasks.app import celery_config
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.ledger import HeldTask
from lowtide.tasks.held.moves import SWEEP_MAX_BYTES, SWEEP_MAX_MESSAGES, Moves, Taken
from lowtide.tasks.held.room import TAKE_MAX_BYTES, Budget, Turns
from lowtide.tasks.queues import lists_of, worker_queues
from lowtide.tasks.redis.keys import Keys
from lowtide.workers.consumer.session import WorkerSession
from tests.clock import Clock
from tests.integration.bare_fleet import PREFIX, Server

KEYS = Keys(PREFIX)
QUEUES = ["lowtide.m.high", "lowtide.m", "lowtide.m.topic"]
WORKER, OTHER = "0a", "0b"
BEAT = 5.0
NESTED = {"delivery_tag": 5, "lowtide-n": "x"}


@pytest.fixture
def redis(server: Server) -> Redis:
    server.redis.flushall()
    server.redis.zadd(KEYS.workers, {WORKER: BEAT, OTHER: BEAT})
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
    moves: Moves,
    incarnation: str = WORKER,
    *,
    messages: int = 64,
    work_s: float = 1.0,
    seconds: float = 0.001,
    **options: Any,
) -> list[Taken]:
    queues = options.pop("queues", QUEUES)
    budget = Budget(messages=messages, work_s=work_s)
    turns = options.pop("turns", None) or Turns(0.1)
    taken = moves.take(incarnation, queues=queues, seconds=[seconds] * len(queues), budget=budget, turns=turns)
    assert taken is not None
    return list(taken.messages)


def tasks(taken: list[Taken]) -> list[str]:
    return [json.loads(item.raw)["headers"]["id"] for item in taken]


def held(item: Taken) -> HeldTask:
    return HeldTask(incarnation=item.incarnation, tag=item.tag, task=item.task, model="m", requests=item.requests)


def state(redis: Redis, incarnation: str = WORKER) -> tuple[int, int]:
    return redis.hlen(KEYS.held(incarnation)), redis.hlen(KEYS.holders)


def sweep(moves: Moves, incarnation: str = WORKER) -> int:
    return moves.sweep(incarnation, BEAT)[0]


def session_of(server: Server) -> tuple[WorkerSession, Clock]:
    """Of a worker that is registered, and its clock."""
    heartbeat, clock = Heartbeat(server.redis, KEYS, kind="worker", name=WORKER), Clock()
    heartbeat.beat()
    session = WorkerSession(
        settings=load_settings(redis_url=server.url, prefix=PREFIX),
        heartbeat=heartbeat,
        predecessor=None,
        seconds_per_request=lambda _: 0.0,
        clock=clock,
    )
    return session, clock


def test_a_take_leaves_what_it_took_with_the_worker(redis: Redis, moves: Moves) -> None:
    sent = message("a")
    push(redis, "lowtide.m", sent)
    [taken] = take(moves)
    tag = sent["properties"]["delivery_tag"]
    assert (taken.queue, taken.tag, taken.task, json.loads(taken.raw)) == ("lowtide.m", tag, "a", sent)
    assert (taken.requests, taken.again) == (1, False)
    assert redis.hget(KEYS.held(WORKER), tag) == b"%s\na\n%s" % (KEYS.queue("lowtide.m").encode(), taken.raw)
    assert redis.hget(KEYS.holders, "a") == WORKER.encode()
    assert redis.ttl(KEYS.held(WORKER)) == -1
    moves.acknowledge(WORKER, [held(taken)])
    assert state(redis) == (0, 0)


def test_who_is_not_registered_takes_nothing(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"))
    redis.zrem(KEYS.workers, WORKER)
    budget = Budget(messages=1, work_s=1)
    assert moves.take(WORKER, queues=QUEUES, seconds=[0, 0, 0], budget=budget, turns=Turns(0.1)) is None
    assert (redis.llen(KEYS.queue("lowtide.m")), state(redis)) == (1, (0, 0))


def test_what_neighbours_hold_is_theirs_and_what_we_hold_is_ours(server: Server, redis: Redis, moves: Moves) -> None:
    options = celery_config(load_settings(redis_url=server.url, prefix=PREFIX))["broker_transport_options"]
    with Connection(server.url, transport_options={**options, "visibility_timeout": 0}) as connection:
        with connection.SimpleQueue("celery") as queue:
            queue.put("theirs")
            theirs = queue.get(timeout=5)
            assert moves.held_by(WORKER) == []

            push(redis, "lowtide.m", message("ours"))
            [ours] = take(moves)
            connection.default_channel.qos.restore_visible(num=None, interval=1)  # as any stock worker does
            assert moves.held_by(WORKER) == [ours.tag]
            theirs.ack()
        assert (sweep(moves, OTHER), moves.hand_back(WORKER, [theirs.delivery_tag])) == (0, 0)
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
    assert moves.hand_back(WORKER, [item.tag for item in taken]) == 10
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
        lambda sent: json.dumps({**sent, "body": '{"id": "no", "delivery_tag": "body", "lowtide-n": 9}'}),
        lambda sent: json.dumps({"properties": sent["properties"], "headers": sent["headers"]}, indent=1),
        lambda sent: json.dumps(
            {**sent, "headers": {**sent["headers"], "z": {"id": "no", "delivery_tag": "no", "lowtide-n": 9}}}
        ),
        lambda sent: json.dumps(
            {"headers": {"a": {"id": 5, "delivery_tag": 5, "lowtide-n": "x"}, **sent["headers"]}, **sent}
        ),
    ],
    ids=["compact", "names in the body", "another order", "nested after", "nested before"],
)
def test_tag_count_and_id_are_read_from_any_json(redis: Redis, moves: Moves, raw: Any) -> None:
    sent = message("a", **{"lowtide-n": 7})
    push(redis, "lowtide.m", raw(sent).encode())
    [taken] = take(moves)
    assert (taken.tag, taken.requests, taken.task) == (sent["properties"]["delivery_tag"], 7, "a")


def test_what_is_no_message_gets_a_name_and_does_not_block_the_queue(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", b"garbage", b'{"headers": {"lowtide-n": null}, "properties": null}', message("after"))
    assert [item.requests for item in take(moves)] == [1, 1, 1]
    assert state(redis) == (3, 1)


def test_what_goes_back_is_served_first_in_its_old_order(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", *(message(str(number)) for number in range(5)))
    taken = take(moves, messages=3)
    assert moves.hand_back(WORKER, [item.tag for item in taken]) == 3
    again = take(moves)
    assert tasks(again) == ["0", "1", "2", "3", "4"]
    assert [item.again for item in again] == [True, True, True, False, False]
    assert [item.raw for item in again[:3]] == [item.raw for item in taken], "byte for byte"
    assert redis.get(KEYS.loss("0")) == b"0", "known to have been held, and not lost"


def test_what_goes_back_is_the_same_byte_for_byte(redis: Redis, moves: Moves) -> None:
    raw = b'{ "body":"[]", "headers":{"id":"a","empty":[],"n":1.0e2}, "properties":{"delivery_tag":"t","x":{}} }'
    push(redis, "lowtide.m", raw)
    take(moves)
    assert sweep(moves) == 1
    assert redis.lrange(KEYS.queue("lowtide.m"), 0, -1) == [raw]


def test_what_was_swept_is_out_of_its_worker_s_reach(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"))
    [taken] = take(moves)
    assert moves.sweep(WORKER, BEAT) == (1, False)
    assert redis.zscore(KEYS.workers, WORKER) is None, "removed with the last of it"
    take(moves, OTHER)

    assert moves.hand_back(WORKER, [taken.tag]) == 0
    moves.acknowledge(WORKER, [held(taken)])
    assert state(redis, OTHER) == (1, 1), "a late acknowledgement changes nothing"
    assert moves.hand_back(OTHER, [taken.tag]) == 1


def test_a_heartbeat_between_the_look_and_the_step_wins(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"))
    take(moves)
    redis.zadd(KEYS.workers, {WORKER: BEAT + 1e-6})
    assert moves.sweep(WORKER, BEAT) == (0, False)
    assert state(redis) == (1, 1)


def test_a_sweep_goes_in_steps_and_whoever_is_being_swept_is_told_so(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", *(message(str(number)) for number in range(SWEEP_MAX_MESSAGES + 6)))
    take(moves)
    take(moves)
    assert moves.sweep(WORKER, BEAT) == (SWEEP_MAX_MESSAGES, True)
    assert redis.zscore(KEYS.workers, WORKER) == 0
    heartbeat = Heartbeat(redis, KEYS, kind="worker", name=WORKER)
    heartbeat._incarnation = WORKER  # it stood still, and goes on
    assert heartbeat._say(WORKER, registers=False) is False
    budget = Budget(messages=1, work_s=1)
    assert moves.take(WORKER, queues=QUEUES, seconds=[0, 0, 0], budget=budget, turns=Turns(0.1)) is None

    assert state(redis)[0] == 6
    assert moves.sweep(WORKER, BEAT) == (6, False)
    assert redis.zscore(KEYS.workers, WORKER) is None


def test_a_step_of_a_sweep_is_bounded_in_bytes(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", *(message(str(number), body="x" * (SWEEP_MAX_BYTES // 2)) for number in range(3)))
    take(moves)
    take(moves)
    assert [moves.sweep(WORKER, BEAT) for _ in range(2)] == [(2, True), (1, False)]


def test_all_that_a_dead_predecessor_held_goes_back_at_once(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", *(message(str(number)) for number in range(SWEEP_MAX_MESSAGES + 6)))
    take(moves)
    take(moves)
    assert moves.sweep_whole(WORKER) == SWEEP_MAX_MESSAGES + 6
    assert moves.sweep_whole(WORKER) == moves.sweep_whole("0c") == 0
    assert redis.get(KEYS.loss("69")) == b"1"


def test_of_a_task_that_was_sent_twice_the_last_holder_is_known(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"), message("a"))
    [first] = take(moves, messages=1)
    [second] = take(moves, OTHER, messages=1)
    moves.acknowledge(WORKER, [held(first)])
    assert redis.hget(KEYS.holders, "a") == OTHER.encode()
    moves.acknowledge(OTHER, [held(second)])
    assert not redis.exists(KEYS.holders)


def test_what_can_not_go_back_because_its_list_is_something_else_stays_and_goes_back_later(
    redis: Redis, moves: Moves
) -> None:
    push(redis, "lowtide.m", message("a"))
    [taken] = take(moves)
    redis.set(KEYS.queue("lowtide.m"), "x")
    assert moves.hand_back(WORKER, [taken.tag]) == 0
    redis.delete(KEYS.queue("lowtide.m"))

    assert sweep(moves) == 1
    redis.zadd(KEYS.workers, {WORKER: BEAT})
    assert tasks(take(moves)) == ["a"]


def test_what_a_take_has_popped_before_it_fails_goes_back_with_the_next_turn_and_is_no_loss(
    server: Server, redis: Redis
) -> None:
    session, clock = session_of(server)
    session.connected()
    push(redis, "lowtide.m", message("a"))
    redis.set(KEYS.queue("lowtide.n"), "x")
    taken: list[Taken] = []

    def serve() -> None:
        taken.extend(session.take(["lowtide.m", "lowtide.n"], prefetch=0).messages)

    session.turn(serve)
    assert (taken, state(redis)) == ([], (1, 1))
    redis.delete(KEYS.queue("lowtide.n"))
    clock.pass_(1.0)

    session.turn(serve)
    assert tasks(taken) == ["a"]
    assert redis.get(KEYS.loss("a")) == b"0"


def test_a_full_redis_can_still_be_drained(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"), message("b"))
    first = take(moves, messages=1)[0]
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            redis.set("any", "value")
        second = take(moves)[0]
        Heartbeat(redis, KEYS, kind="worker", name=WORKER, status=lambda: {"x": "y" * 1000}).beat()
        beaten = redis.zscore(KEYS.workers, WORKER)
        assert beaten > BEAT
        moves.acknowledge(WORKER, [held(second)])
        assert moves.hand_back(WORKER, [first.tag]) == 1
        take(moves)
        assert moves.sweep(WORKER, beaten) == (1, False)
    finally:
        redis.config_set("maxmemory", 0)
    assert state(redis) == (0, 0)
    assert redis.get(KEYS.loss("a")) == b"1"


def test_nothing_is_written_outside_the_prefix(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"), message("b"))
    taken = take(moves)
    moves.hand_back(WORKER, [taken[0].tag])
    Heartbeat(redis, KEYS, kind="worker").beat()
    sweep(moves)
    assert all(key.startswith(PREFIX.encode()) for key in redis.keys("*"))


WAKE, WAKE_N = KEYS.wake("m"), KEYS.wake("n")


def test_a_take_that_leaves_tasks_behind_wakes_one_other_worker(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"), message("b"), message("c"))

    assert tasks(take(moves, messages=1)) == ["a"]
    assert redis.lrange(WAKE, 0, -1) == [b""]
    assert tasks(take(moves, messages=1)) == ["b"]
    assert redis.llen(WAKE) == 1, "one lies there already"
    assert 0 < redis.ttl(WAKE) <= 10


def test_a_take_that_finds_nothing_more_removes_the_tokens_of_the_model(redis: Redis, moves: Moves) -> None:
    queues = [*worker_queues(["m", "n"]), "other"]
    push(redis, "lowtide.m", message("a"))
    push(redis, "lowtide.n", message("b"), message("c"))
    for key in (WAKE, WAKE_N):
        redis.rpush(key, "", "")

    assert tasks(take(moves, messages=2, queues=queues)) == ["a", "b"]
    assert (redis.llen(WAKE), redis.llen(WAKE_N)) == (0, 2)
    take(moves, queues=queues)
    redis.rpush(WAKE_N, "")
    assert take(moves, queues=queues) == []
    assert not redis.exists(WAKE, WAKE_N)


def test_a_take_from_some_queues_of_a_model_touches_no_tokens_of_it(redis: Redis, moves: Moves) -> None:
    redis.rpush(WAKE, "")
    redis.rpush(WAKE_N, "")
    push(redis, "lowtide.n", message("unheard"))
    assert take(moves, queues=[*worker_queues(["m"]), "lowtide.n.topic"]) == []
    assert (redis.llen(WAKE), redis.llen(WAKE_N)) == (0, 1)


def test_a_take_from_other_queues_alone_touches_no_tokens(redis: Redis, moves: Moves) -> None:
    redis.rpush(WAKE, "")
    push(redis, "other", message("a"), message("b"))

    assert tasks(take(moves, messages=1, queues=["other"])) == ["a"]
    assert tasks(take(moves, queues=["other", "lowtide.mm"])) == ["b"]
    assert redis.keys(KEYS.wake("*")) == [WAKE.encode()]


def test_to_look_whether_there_is_anything_is_one_command_however_many_queues(redis: Redis, moves: Moves) -> None:
    queues = worker_queues([f"model-{number}" for number in range(400)])
    before = redis.info("stats")["total_commands_processed"]

    assert not moves.anything(queues)
    assert redis.info("stats")["total_commands_processed"] - before == 2, "with the one that asks"
    for name in (KEYS.queue(lists_of(queues[-1])[-1]), KEYS.queue(queues[0])):
        redis.lpush(name, "x")
        assert moves.anything(queues)
        redis.delete(name)
    redis.zadd(KEYS.scheduled, {"x": 0})
    assert moves.anything(QUEUES)


def test_a_take_of_a_thousand_models_is_possible(redis: Redis, moves: Moves) -> None:
    queues = worker_queues([f"model-{number}" for number in range(1000)])
    push(redis, queues[-1], message("a"), message("b"))

    assert tasks(take(moves, messages=1, queues=queues)) == ["a"]
    assert redis.keys(KEYS.wake("*")) == [KEYS.wake("model-999").encode()]


def test_what_lies_where_tokens_belong_keeps_no_task(redis: Redis, moves: Moves) -> None:
    redis.set(WAKE, "somebody's")
    push(redis, "lowtide.m", message("a"), message("b"))
    assert tasks(take(moves, messages=1)) == ["a"]
    redis.delete(WAKE)
    redis.config_set("maxmemory", 1)
    try:
        assert tasks(take(moves, messages=1)) == ["b"]
    finally:
        redis.config_set("maxmemory", 0)


def test_tokens_that_nobody_needs_are_few(redis: Redis, moves: Moves) -> None:
    for _ in range(40):
        moves.pass_on(WAKE)
    assert redis.llen(WAKE) == 32


def test_who_sends_a_task_of_the_same_id_again_sends_another(redis: Redis, moves: Moves) -> None:
    push(redis, "lowtide.m", message("a"))
    [first] = take(moves)
    moves.hand_back(WORKER, [first.tag])
    redis.hset(KEYS.part("a"), "0", "{}")
    redis.hset(KEYS.strike("a"), "0:1", 1)
    [again] = take(moves)
    assert again.again
    moves.acknowledge(WORKER, [held(again)])

    push(redis, "lowtide.m", message("a"))
    [another] = take(moves)
    assert not another.again
    assert not redis.exists(KEYS.loss("a"), KEYS.strike("a"), KEYS.part("a"))
    moves.hand_back(WORKER, [another.tag])
    moves.acknowledge(WORKER, [held(another)])
    assert redis.exists(KEYS.loss("a")), "who no longer holds it does not forget what befell it"


def test_what_redis_says_that_a_worker_holds_and_it_does_not_know_goes_back_while_it_lives(
    server: Server, redis: Redis, moves: Moves
) -> None:
    session, clock = session_of(server)
    session.turn(lambda: None)
    push(redis, "lowtide.m", message("a"))
    take(moves)  # whose answer nobody has got
    session.turn(lambda: None)
    assert state(redis) == (1, 1)
    clock.pass_(30.0)
    session.turn(lambda: None)
    assert state(redis) == (0, 0)

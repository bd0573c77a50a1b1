from collections.abc import Iterator

import pytest
from redis import Redis

from lowtide.config import Settings
from lowtide.tasks.app import configure
from lowtide.tasks.chunks.lost import LIST_MESSAGES, PAGE_BYTES, PAGE_MESSAGES, LostTasks
from lowtide.tasks.chunks.sending import Chunk, ChunkSender, new_owner, new_task_id
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.moves import Moves
from lowtide.tasks.held.room import Budget, Turns
from lowtide.tasks.redis.keys import Keys

QUEUE = "lowtide.a"
KEYS = Keys("")


class World:
    """A caller that sent three tasks, and one who looks for them."""

    def __init__(self, redis: Redis, url: str) -> None:
        self.redis = redis
        self.now_s = 100.0
        self.sender = ChunkSender(configure(Settings(redis_url=url)))
        self.owner = new_owner()
        self.tasks = self.send(3)
        self.looks = LostTasks(redis, KEYS, self.owner, gone_s=10.0, clock=lambda: self.now_s)

    def send(self, count: int, owner: str | None = None) -> list[str]:
        tasks = [new_task_id(owner or self.owner) for _ in range(count)]
        request = {"model": "a", "data": "AAAA" * 1000}
        self.sender.send(Chunk(task_id=task, queue=QUEUE, requests=(request,), sent_at=0.0) for task in tasks)
        return tasks

    def look(self, after_s: float = 0.0) -> list[str]:
        self.now_s += after_s
        return self.looks.look(dict.fromkeys(self.tasks, QUEUE))


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    with Redis.from_url(redis_url) as redis:
        yield World(redis, redis_url)


def test_what_waits_is_held_or_has_a_result_is_not_lost(world: World) -> None:
    Heartbeat(world.redis, KEYS, kind="worker", name="0a").beat()
    budget = Budget(messages=1, work_s=1.0)
    took = Moves(world.redis, KEYS).take("0a", queues=[QUEUE], seconds=[0.0], budget=budget, turns=Turns(0.1))
    assert took is not None
    [taken] = took.messages
    assert world.look() == world.look(60) == []
    Moves(world.redis, KEYS).hand_back("0a", [taken.tag])
    assert world.look(60) == world.look(60) == []
    world.redis.rpop(KEYS.queue(QUEUE))
    world.redis.set(KEYS.result(world.tasks[0]), "{}")
    assert world.look(60) == world.look(60) == []


def test_what_was_nowhere_in_two_looks_is_lost_and_told_once_for_each_time(world: World) -> None:
    world.redis.rpop(KEYS.queue(QUEUE))

    assert world.look() == []
    assert world.looks.anything_missing
    assert world.look(5) == []
    assert world.look(5) == [world.tasks[0]]
    assert world.look(60) == []


def test_what_was_found_again_begins_anew(world: World) -> None:
    message = world.redis.rpop(KEYS.queue(QUEUE))
    world.look()
    world.redis.rpush(KEYS.queue(QUEUE), message)
    assert world.look(10) == []
    world.redis.rpop(KEYS.queue(QUEUE))
    assert world.look(10) == []


def test_a_queue_is_looked_through_in_pages_among_others_tasks(world: World) -> None:
    world.send(30, owner=new_owner())
    world.redis.lpush(KEYS.queue(QUEUE), *["small"] * 2 * PAGE_MESSAGES)
    world.tasks += world.send(3)
    world.redis.lpush(KEYS.queue(QUEUE), *["x" * (PAGE_BYTES // 2)] * 5)
    world.redis.rpop(KEYS.queue(QUEUE))
    world.look()

    assert world.look(10) == [world.tasks[0]]


def test_a_queue_that_is_too_long_is_taken_to_hold_its_tasks_until_it_is_shorter(world: World) -> None:
    world.redis.lpush(KEYS.queue(QUEUE), *["another's"] * (LIST_MESSAGES - len(world.tasks) + 1))
    world.tasks += [new_task_id(world.owner)]
    assert world.look() == world.look(10) == []
    world.redis.rpop(KEYS.queue(QUEUE))
    world.look()
    assert set(world.look(10)) == {world.tasks[0], world.tasks[3]}

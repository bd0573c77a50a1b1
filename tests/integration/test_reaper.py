"""The reaper, against every Redis server of this machine. Time is told, not waited for."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from lowtide.local.redis import redis_servers
from lowtide.tasks.keys import LOSS_S, Keys
from lowtide.tasks.transport import Reaper
from lowtide.tasks.transport.ledger import Held
from lowtide.tasks.transport.moves import Moves
from lowtide.tasks.transport.room import Budget, Turns
from tests.integration.transport_fleet import PREFIX, Server, server_of, until

SERVERS = redis_servers()
KEYS = Keys(PREFIX)
QUEUE = "lowtide.m"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(SERVERS[request.param], tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(server: Server) -> Redis:
    server.redis.flushall()
    return server.redis


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reaper(redis: Redis, clock: Clock) -> Reaper:
    return Reaper(redis, KEYS, clock=clock)


def take(redis: Redis, *names: str) -> list[Held]:
    """A worker takes tasks of these ids, whose tags are the same."""
    for name in names:
        properties = {"delivery_tag": name, "delivery_info": {}, "priority": 0}
        redis.lpush(KEYS.queue(QUEUE), json.dumps({"body": "", "headers": {"id": name}, "properties": properties}))
    budget = Budget(messages=64, work_s=1)
    taken = Moves(redis, KEYS).take("w:0", queues=[QUEUE], seconds=[0.0], budget=budget, turns=Turns(0.1))
    return [Held(tag=item.tag, task=item.tag, model="m", requests=1) for item in taken]


def watch(sweep: Callable[[], int], clock: Clock, *, seconds: float) -> int:
    """Sweeps every 2 s for so long; how many went back."""
    moved = 0
    for _ in range(int(seconds / 2)):
        clock.now_s += 2
        moved += sweep()
    return moved


def test_what_nobody_touched_for_20_s_goes_back_and_is_a_loss(redis: Redis, reaper: Reaper, clock: Clock) -> None:
    take(redis, "a")
    assert watch(reaper.sweep, clock, seconds=20) == 0
    assert watch(reaper.sweep, clock, seconds=2) == 1
    [raw] = redis.lrange(KEYS.queue(QUEUE), 0, -1)
    assert json.loads(raw)["properties"]["delivery_info"]["redelivered"] is True
    assert redis.get(KEYS.loss("a")) == b"1"
    assert 0 < redis.ttl(KEYS.loss("a")) <= LOSS_S
    assert not redis.exists(KEYS.unacked, KEYS.unacked_index)


def test_what_went_back_is_served_before_what_waits_oldest_first(redis: Redis, reaper: Reaper, clock: Clock) -> None:
    take(redis, "a")
    take(redis, "b")
    redis.lpush(KEYS.queue(QUEUE), "waiting")
    assert watch(reaper.sweep, clock, seconds=22) == 2
    served = [redis.rpop(KEYS.queue(QUEUE)) for _ in range(3)]
    assert [b'"a"' in served[0], b'"b"' in served[1], served[2]] == [True, True, b"waiting"]


def test_what_is_touched_stays(redis: Redis, reaper: Reaper, clock: Clock) -> None:
    held = take(redis, "a")
    for _ in range(6):
        assert watch(reaper.sweep, clock, seconds=10) == 0
        Moves(redis, KEYS).touch("w:0", held)
    assert not redis.exists(KEYS.loss("a"))


def test_a_touch_between_the_look_and_the_move_wins(redis: Redis, clock: Clock) -> None:
    held = take(redis, "a")
    score = redis.zscore(KEYS.unacked_index, "a")
    Moves(redis, KEYS).touch("w:0", held)
    assert Moves(redis, KEYS).reap("a", score) == 0
    assert redis.hexists(KEYS.unacked, "a")


def test_a_clock_that_is_wrong_by_a_day_changes_nothing(redis: Redis, reaper: Reaper, clock: Clock) -> None:
    take(redis, "past", "future")
    redis.zadd(KEYS.unacked_index, {"past": 1.0, "future": 9e9})
    assert watch(reaper.sweep, clock, seconds=20) == 0
    assert watch(reaper.sweep, clock, seconds=2) == 2


def test_an_index_entry_without_a_message_is_removed(redis: Redis, reaper: Reaper, clock: Clock) -> None:
    redis.zadd(KEYS.unacked_index, {"ghost": 5.0})
    assert watch(reaper.sweep, clock, seconds=22) == 0
    assert not redis.exists(KEYS.unacked_index)
    assert not redis.keys(KEYS.loss("*"))


def test_a_message_without_an_index_entry_goes_back(redis: Redis, reaper: Reaper, clock: Clock) -> None:
    take(redis, "a")
    redis.delete(KEYS.unacked_index)
    assert watch(reaper.sweep, clock, seconds=22) == 1
    assert redis.llen(KEYS.queue(QUEUE)) == 1


def test_an_unreadable_entry_is_dropped(
    redis: Redis, reaper: Reaper, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    redis.hset(KEYS.unacked, "bad", "no json")
    redis.zadd(KEYS.unacked_index, {"bad": 5.0})
    assert watch(reaper.sweep, clock, seconds=22) == 0
    assert not redis.exists(KEYS.unacked, KEYS.unacked_index)
    assert "can never run" in caplog.text


def test_many_reapers_give_back_once(redis: Redis, server: Server) -> None:
    take(redis, *(str(number) for number in range(40)))
    clock = Clock()
    reapers = [Reaper(Redis.from_url(server.url), KEYS, clock=clock) for _ in range(4)]
    for _ in range(10):
        clock.now_s += 2
        assert sum(reaper.sweep() for reaper in reapers) == 0
    clock.now_s += 2
    moved: list[int] = []
    threads = [threading.Thread(target=lambda one=reaper: moved.append(one.sweep())) for reaper in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(moved) == redis.llen(KEYS.queue(QUEUE)) == 40
    assert all(redis.get(KEYS.loss(str(number))) == b"1" for number in range(40))


def looks(redis: Redis) -> int:
    return int(redis.info("commandstats").get("cmdstat_hkeys", {}).get("calls", 0))


def test_of_many_reapers_one_looks_and_when_it_stops_another_does(redis: Redis, server: Server) -> None:
    take(redis, "a")
    clock = Clock()
    first, *others = reapers = [Reaper(Redis.from_url(server.url), KEYS, clock=clock) for _ in range(4)]
    before = looks(redis)
    for _ in range(10):
        clock.now_s += 2
        assert sum(reaper.turn() for reaper in reapers) == 0
    assert looks(redis) - before == 10

    first.stop()
    assert watch(others[0].turn, clock, seconds=20) == 0, "what it has not seen for 20 s"
    assert watch(others[0].turn, clock, seconds=2) == 1


def test_who_leads_and_vanishes_is_replaced_and_does_no_harm_when_it_comes_back(redis: Redis, server: Server) -> None:
    quiet_s = 0.4
    held = take(redis, "a", "b")
    gone, other = (Reaper(Redis.from_url(server.url), KEYS, quiet_s=quiet_s) for _ in range(2))
    gone.turn()
    assert other.turn() == 0
    until(lambda: Moves(redis, KEYS).touch("w:0", held[:1]) and other.turn() == 1, timeout_s=5, what="b goes back")

    assert gone.turn() == gone.sweep() == 0
    assert redis.llen(KEYS.queue(QUEUE)) == 1
    assert redis.get(KEYS.loss("b")) == b"1"
    assert not redis.exists(KEYS.loss("a"))


def test_a_failed_sweep_starts_the_watch_over(redis: Redis, reaper: Reaper, clock: Clock, server: Server) -> None:
    take(redis, "a")
    watch(reaper.sweep, clock, seconds=18)
    redis.rename(KEYS.unacked_index, "aside")
    redis.set(KEYS.unacked_index, "of another type")
    assert watch(reaper.sweep, clock, seconds=2) == 0
    redis.rename("aside", KEYS.unacked_index)
    assert watch(reaper.sweep, clock, seconds=20) == 0
    assert watch(reaper.sweep, clock, seconds=2) == 1


def test_a_redis_that_stood_still_restores_nothing(redis: Redis, server: Server) -> None:
    held = take(redis, "a")
    reaper = Reaper(Redis.from_url(server.url), KEYS, quiet_s=1.0)
    reaper.start()
    try:
        time.sleep(0.5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        server.process.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        assert Moves(redis, KEYS).touch("w:0", held) == 1
        until(lambda: redis.llen(KEYS.queue(QUEUE)) == 1, timeout_s=3, what="it still reaps")
    finally:
        server.process.send_signal(signal.SIGCONT)
        reaper.stop()
        reaper.stop()

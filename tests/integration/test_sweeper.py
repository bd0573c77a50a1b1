"""The sweeper, against every Redis server of this machine. Time is told, not waited for."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import pytest
from redis import Redis

from lowtide.config import Settings
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.moves import SWEEP_MAX_MESSAGES, Moves
from lowtide.tasks.held.room import Budget, Turns
from lowtide.tasks.held.sweeper import QUIET_S, Sweeper
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import LOSS_S, PROTOCOL, Keys
from lowtide.tasks.redis.registry import unregister
from tests.clock import Clock
from tests.integration.bare_fleet import PREFIX, Server
from tests.waiting import until

KEYS = Keys(PREFIX)
QUEUE = "lowtide.m"
WORKER, OTHER = "0a", "0b"


@pytest.fixture
def redis(server: Server) -> Redis:
    server.redis.flushall()
    return server.redis


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def sweeper(redis: Redis, clock: Clock) -> Sweeper:
    return Sweeper(redis, KEYS, clock=clock)


def beat(redis: Redis, incarnation: str = WORKER) -> None:
    Heartbeat(redis, KEYS, kind="worker", name=incarnation).beat()


def take(redis: Redis, *names: str, by: str = WORKER) -> None:
    """A worker takes tasks of these ids, whose tags are the same."""
    beat(redis, by)
    for name in names:
        properties = {"delivery_tag": name, "delivery_info": {}, "priority": 0}
        redis.lpush(KEYS.queue(QUEUE), json.dumps({"body": "", "headers": {"id": name}, "properties": properties}))
    budget = Budget(messages=64, work_s=1)
    taken = Moves(redis, KEYS).take(by, queues=[QUEUE], seconds=[0.0], budget=budget, turns=Turns(0.1))
    assert taken is not None
    assert [item.task for item in taken.messages] == list(names)


def watch(sweep: Callable[[], int], clock: Clock, *, seconds: float) -> int:
    """Sweeps every 2 s for so long; how many went back."""
    moved = 0
    for _ in range(int(seconds / 2)):
        clock.now_s += 2
        moved += sweep()
    return moved


def slow_sweeper(redis: Redis, clock: Callable[[], float], *, step_s: float, quiet_s: float = QUIET_S) -> Sweeper:
    """Four workers hold a task each. By the clock of the sweeper it takes `step_s` to give one back."""
    for worker in "cdef":
        take(redis, worker, by=worker)
    return Sweeper(redis, KEYS, quiet_s=quiet_s, clock=lambda: clock() + step_s * redis.llen(KEYS.queue(QUEUE)))


@contextmanager
def lock_of_another_type(redis: Redis) -> Iterator[None]:
    """Who leads can't renew its lead meanwhile, nor can another take it."""
    redis.delete(KEYS.sweeper)
    redis.rpush(KEYS.sweeper, "no lock")
    yield
    redis.delete(KEYS.sweeper)


def test_what_the_silent_held_goes_back_after_20_s_and_is_a_loss(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    take(redis, "a")
    assert watch(sweeper.sweep, clock, seconds=20) == 0
    assert watch(sweeper.sweep, clock, seconds=2) == 1
    assert redis.llen(KEYS.queue(QUEUE)) == 1
    assert redis.get(KEYS.loss("a")) == b"1"
    assert 0 < redis.ttl(KEYS.loss("a")) <= LOSS_S
    assert not redis.exists(KEYS.held(WORKER), KEYS.holders, KEYS.workers, KEYS.worker_status)


def test_what_went_back_is_served_before_what_waits(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    take(redis, "a", "b")
    redis.lpush(KEYS.queue(QUEUE), "waiting")
    assert watch(sweeper.sweep, clock, seconds=22) == 2
    assert redis.lindex(KEYS.queue(QUEUE), 0) == b"waiting"


@pytest.fixture
def misnamed(redis: Redis) -> bytes:
    """Of three tasks that the silent hold, one is of a list whose name something else has by now, one is no entry."""
    take(redis, "a", "b")
    take(redis, "c", by=OTHER)
    entry: bytes = redis.hget(KEYS.held(WORKER), "a")
    taken_from = entry.replace(QUEUE.encode(), b"lowtide.n", 1)
    redis.hset(KEYS.held(WORKER), mapping={"a": taken_from, "x": "no entry"})
    redis.set(KEYS.queue("lowtide.n"), "of another type")
    return taken_from


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_what_cannot_go_back_keeps_nothing_else_and_nobody_registered_and_is_told_once(
    redis: Redis, sweeper: Sweeper, clock: Clock, misnamed: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert watch(sweeper.sweep, clock, seconds=22) == 2
    assert redis.llen(KEYS.queue(QUEUE)) == 2
    assert not redis.exists(KEYS.held(WORKER), KEYS.held(OTHER), KEYS.holders, KEYS.workers, KEYS.worker_status)
    assert redis.hgetall(KEYS.stuck) == {b"0a:a": misnamed, b"0a:x": b"no entry"}
    assert watch(sweeper.sweep, clock, seconds=60) == 0
    (said,) = told(caplog)
    assert said.startswith("2 tasks of worker 0a can't go back: something else than a list has the name")


def test_what_could_not_go_back_does_so_when_it_can(
    redis: Redis, sweeper: Sweeper, clock: Clock, misnamed: bytes
) -> None:
    watch(sweeper.sweep, clock, seconds=22)
    redis.delete(KEYS.queue("lowtide.n"))
    assert watch(sweeper.sweep, clock, seconds=20) == 1
    assert redis.lrange(KEYS.queue("lowtide.n"), 0, -1) == [misnamed.split(b"\n", 2)[2]]
    assert redis.get(KEYS.loss("a")) == b"1"
    assert redis.hkeys(KEYS.stuck) == [b"0a:x"]


def test_one_sweep_puts_no_more_aside_than_it_would_give_back(redis: Redis) -> None:
    beat(redis)
    taken_from = f"{KEYS.queue('lowtide.n')}\n\n"
    redis.hset(KEYS.held(WORKER), mapping={str(number): f"{taken_from}{number}" for number in range(100)})
    redis.set(KEYS.queue("lowtide.n"), "of another type")
    moves = Moves(redis, KEYS)
    seen = redis.zscore(KEYS.workers, WORKER)
    assert moves.sweep(WORKER, seen) == (0, True)
    assert redis.hlen(KEYS.stuck) == SWEEP_MAX_MESSAGES
    assert moves.sweep(WORKER, seen) == (0, False)
    assert (redis.hlen(KEYS.stuck), redis.exists(KEYS.workers), moves.free()) == (100, 0, 0)
    redis.delete(KEYS.queue("lowtide.n"))
    assert [moves.free() for _ in range(3)] == [64, 36, 0]


def test_what_the_living_hold_stays_and_costs_no_look_at_it(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    take(redis, "a", "b")
    take(redis, "c", by=OTHER)
    for _ in range(6):
        watch(sweeper.sweep, clock, seconds=10)
        beat(redis)
    assert redis.hlen(KEYS.held(WORKER)) == 2
    assert (redis.get(KEYS.loss("a")), redis.get(KEYS.loss("c"))) == (None, b"1")


def test_a_clock_that_is_wrong_by_a_day_changes_nothing(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    take(redis, "past")
    take(redis, "future", by=OTHER)
    redis.zadd(KEYS.workers, {WORKER: 1.0, OTHER: 9e9})
    assert watch(sweeper.sweep, clock, seconds=20) == 0
    assert watch(sweeper.sweep, clock, seconds=2) == 2


def test_a_bridge_that_is_silent_is_unregistered_and_a_live_one_stays(
    redis: Redis, sweeper: Sweeper, clock: Clock
) -> None:
    gone, here = (Heartbeat(redis, KEYS, kind="bridge", name=name) for name in ("gone", "here"))
    gone.beat()
    for _ in range(6):
        here.beat()
        watch(sweeper.sweep, clock, seconds=6)
    assert redis.zrange(KEYS.bridges, 0, -1) == redis.hkeys(KEYS.bridge_status) == [b"here"]


def test_no_bridge_is_silent_while_redis_or_the_sweeper_stood_still(
    redis: Redis, sweeper: Sweeper, clock: Clock
) -> None:
    bridge = Heartbeat(redis, KEYS, kind="bridge", name="b")
    bridge.beat()
    watch(sweeper.sweep, clock, seconds=14)
    clock.now_s += 20
    watch(sweeper.sweep, clock, seconds=4)
    assert redis.zrange(KEYS.bridges, 0, -1) == [b"b"]
    bridge.beat()
    watch(sweeper.sweep, clock, seconds=50)
    assert not redis.exists(KEYS.bridges)


def test_a_bridge_that_is_silent_leaves_no_content(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    gone, here = (Heartbeat(redis, KEYS, kind="bridge", name=name) for name in ("gone", "here"))
    gone.beat()
    for name in ("gone", "here"):
        redis.hset(KEYS.blobs(name), mapping={f"{name}.{number}": 7 for number in range(70)})
        redis.mset({KEYS.blob(f"{name}.{number}"): "content" for number in range(70)})
        redis.set(KEYS.result(f"{name}.0"), "result")
    for _ in range(6):
        here.beat()
        watch(sweeper.sweep, clock, seconds=6)
    assert redis.keys(KEYS.blobs("*")) == [KEYS.blobs("here").encode()]
    assert len(redis.keys(KEYS.blob("*"))) == 70
    assert redis.exists(KEYS.result("gone.0")), "it may have stood still, and then it takes that"


def test_many_sweepers_give_back_once(redis: Redis, server: Server) -> None:
    take(redis, *(str(number) for number in range(40)))
    clock = Clock(0.0)
    sweepers = [Sweeper(connect(Settings(redis_url=server.url)), KEYS, clock=clock) for _ in range(4)]
    for _ in range(10):
        clock.now_s += 2
        assert sum(sweeper.sweep() for sweeper in sweepers) == 0
    clock.now_s += 2
    moved: list[int] = []
    threads = [threading.Thread(target=lambda one=sweeper: moved.append(one.sweep())) for sweeper in sweepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(moved) == redis.llen(KEYS.queue(QUEUE)) == 40
    assert all(redis.get(KEYS.loss(str(number))) == b"1" for number in range(40))


def looks(redis: Redis) -> int:
    return int(redis.info("commandstats").get("cmdstat_zrange", {}).get("calls", 0))


def test_of_many_sweepers_one_looks_and_when_it_stops_another_does(redis: Redis, server: Server) -> None:
    take(redis, "a")
    clock = Clock(0.0)
    first, *others = sweepers = [Sweeper(connect(Settings(redis_url=server.url)), KEYS, clock=clock) for _ in range(4)]
    before = looks(redis)
    for _ in range(10):
        clock.now_s += 2
        assert sum(sweeper.turn() for sweeper in sweepers) == 0
    assert looks(redis) - before == 11, "at workers, and once at bridges"

    first.stop()
    assert watch(others[0].turn, clock, seconds=20) == 0, "what it has not seen for 20 s"
    assert watch(others[0].turn, clock, seconds=2) == 1


def test_who_leads_asks_for_little_while_nothing_happens(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    redis.set(KEYS.protocol, PROTOCOL)
    sweeper.turn()
    before = redis.info("stats")["total_commands_processed"]
    watch(sweeper.turn, clock, seconds=120)
    commands = redis.info("stats")["total_commands_processed"] - before - 1
    assert commands / 120 < 1.2, "of the five a second that an idle worker may send"


def test_who_leads_notices_within_four_turns_that_another_does(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    sweeper.turn()
    redis.set(KEYS.sweeper, "another", px=10_000)
    watch(sweeper.turn, clock, seconds=8)
    before = looks(redis)
    watch(sweeper.turn, clock, seconds=6)
    assert looks(redis) == before


def test_who_has_much_to_give_back_renews_its_lock_at_each_look(redis: Redis, clock: Clock) -> None:
    sweeper = slow_sweeper(redis, clock, step_s=2.1)
    assert watch(sweeper.turn, clock, seconds=22) == 1
    for _ in range(3):
        redis.set(KEYS.sweeper, redis.get(KEYS.sweeper), px=6_000)
        assert watch(sweeper.turn, clock, seconds=2) == 1
        assert redis.pttl(KEYS.sweeper) > 6_000


def test_who_could_not_renew_its_lead_asks_again_at_once(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    sweeper.turn()
    with lock_of_another_type(redis):
        watch(sweeper.turn, clock, seconds=6)
    redis.set(KEYS.sweeper, "another", px=10_000)
    before = looks(redis)
    watch(sweeper.turn, clock, seconds=2)
    assert looks(redis) == before


def test_who_leads_and_vanishes_is_replaced_and_does_no_harm_when_it_comes_back(redis: Redis, server: Server) -> None:
    quiet_s = 0.4
    take(redis, "a")
    take(redis, "b", by=OTHER)
    gone, other = (Sweeper(connect(Settings(redis_url=server.url)), KEYS, quiet_s=quiet_s) for _ in range(2))
    gone.turn()
    assert other.turn() == 0

    def swept() -> bool:
        beat(redis)
        return other.turn() == 1

    until(swept, what="b goes back")
    assert gone.turn() == gone.sweep() == 0
    assert redis.llen(KEYS.queue(QUEUE)) == 1
    assert redis.get(KEYS.loss("b")) == b"1"
    assert not redis.exists(KEYS.loss("a"))


def gives_back_at_once(redis: Redis, sweeper: Sweeper, *, quiet_s: float, before: Callable[[], object]) -> bool:
    """Whether it gives back what is silent as soon as it leads, after it has seen that silence, and `before`."""
    redis.flushall()
    redis.set(KEYS.sweeper, "another")
    take(redis, "a")
    began_s = time.monotonic()
    while time.monotonic() - began_s < 1.2 * quiet_s:
        assert sweeper.turn() == 0
        time.sleep(quiet_s / 20)
    before()
    redis.delete(KEYS.sweeper)
    return sweeper.turn() == 1


def test_a_successor_gives_back_at_once_what_was_silent_all_the_time_that_it_saw_redis(
    redis: Redis, server: Server
) -> None:
    longer_s = count(1.0)  # each time, so that beside it the pauses of a busy machine become short

    def gives_back() -> bool:
        quiet_s = next(longer_s)
        sweeper = Sweeper(connect(Settings(redis_url=server.url)), KEYS, quiet_s=quiet_s)
        return gives_back_at_once(redis, sweeper, quiet_s=quiet_s, before=lambda: None)

    until(gives_back, what="a successor that Redis was never out of the sight of")


def test_a_successor_whose_connection_broke_watches_first_as_redis_may_have_come_back_with_old_heartbeats(
    redis: Redis, server: Server
) -> None:
    sweeper = Sweeper(connect(Settings(redis_url=server.url)), KEYS, quiet_s=0.5)
    cut = partial(redis.client_kill_filter, _type="normal", skipme=True)
    assert not gives_back_at_once(redis, sweeper, quiet_s=0.5, before=cut)
    until(lambda: sweeper.turn() == 1, what="given back after a watch")


def test_a_failed_sweep_starts_the_watch_over(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    take(redis, "a")
    watch(sweeper.sweep, clock, seconds=18)
    redis.rename(KEYS.workers, "aside")
    redis.set(KEYS.workers, "of another type")
    assert watch(sweeper.sweep, clock, seconds=2) == 0
    redis.rename("aside", KEYS.workers)
    assert watch(sweeper.sweep, clock, seconds=20) == 0
    assert watch(sweeper.sweep, clock, seconds=2) == 1


def test_a_long_sweep_looks_again_before_it_goes_on_and_forgets_nobody(redis: Redis, clock: Clock) -> None:
    sweeper = slow_sweeper(redis, clock, step_s=3.0)
    assert watch(sweeper.sweep, clock, seconds=20) == 0
    assert [watch(sweeper.sweep, clock, seconds=2) for _ in range(4)] == [1, 1, 1, 1]


def test_a_redis_that_goes_away_in_mid_sweep_is_not_asked_without_a_pause(redis: Redis, clock: Clock) -> None:
    sweeper = slow_sweeper(redis, clock, step_s=3.0)
    watch(sweeper.turn, clock, seconds=22)
    assert sweeper._next_pause_s() == 0
    with lock_of_another_type(redis):
        watch(sweeper.turn, clock, seconds=2)
    assert sweeper._next_pause_s() > 1


def test_what_one_look_left_is_gone_on_with_without_a_pause(redis: Redis, clock: Clock) -> None:
    """Else a lost zone takes twice as long. From look to look it is a minute here, by the clock that pauses go by."""
    sweeper = slow_sweeper(redis, clock, step_s=63.0, quiet_s=600.0)
    for _ in range(10):
        clock.pass_(60)
        assert sweeper.turn() == 0
    clock.pass_(60)
    sweeper.start()
    try:
        until(lambda: redis.llen(KEYS.queue(QUEUE)) == 4, what="all go back")
    finally:
        sweeper.stop()


def test_what_another_sweeper_left_half_done_is_gone_on_with_at_once(
    redis: Redis, sweeper: Sweeper, clock: Clock
) -> None:
    take(redis, "a")
    redis.zadd(KEYS.workers, {WORKER: 0})
    assert watch(sweeper.sweep, clock, seconds=2) == 1


def test_heartbeats_differ_also_while_the_clock_stands_still(redis: Redis) -> None:
    heartbeat = Heartbeat(redis, KEYS, kind="worker", name=WORKER)
    heartbeat.beat()
    redis.zadd(KEYS.workers, {WORKER: 9e9})
    heartbeat.beat()
    assert redis.zscore(KEYS.workers, WORKER) > 9e9


def test_a_redis_that_stood_still_restores_nothing(redis: Redis, server: Server, clock: Clock) -> None:
    take(redis, "a")
    with connect(Settings(redis_url=server.url), timeout_s=0.5) as impatient:
        sweeper = Sweeper(impatient, KEYS, clock=clock)
        watch(sweeper.turn, clock, seconds=10)
        server.signal(signal.SIGSTOP)
        try:
            watch(sweeper.turn, clock, seconds=14)
        finally:
            server.signal(signal.SIGCONT)
        assert watch(sweeper.turn, clock, seconds=20) == 0
        assert watch(sweeper.turn, clock, seconds=4) == 1, "it still sweeps"


def test_a_full_redis_can_be_swept_also_by_who_has_yet_to_lead(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    take(redis, "a")
    redis.config_set("maxmemory", 1)
    try:
        assert watch(sweeper.turn, clock, seconds=22) == 1
    finally:
        redis.config_set("maxmemory", 0)


def test_while_nobody_can_write_nobody_is_silent(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    take(redis, "a")
    watch(sweeper.turn, clock, seconds=10)
    with lock_of_another_type(redis):
        watch(sweeper.turn, clock, seconds=20)
    assert watch(sweeper.turn, clock, seconds=20) == 0
    assert watch(sweeper.turn, clock, seconds=2) == 1


def test_what_a_worker_holds_whose_registration_is_lost_goes_back(redis: Redis, sweeper: Sweeper, clock: Clock) -> None:
    heartbeat = Heartbeat(redis, KEYS, kind="worker")
    heartbeat.beat()
    first = str(heartbeat.incarnation)
    take_as = Moves(redis, KEYS).take
    redis.lpush(KEYS.queue(QUEUE), json.dumps({"body": "", "headers": {"id": "a"}, "properties": {}}))
    take_as(first, queues=[QUEUE], seconds=[0.0], budget=Budget(messages=1, work_s=1), turns=Turns(0.1))
    redis.delete(KEYS.workers)
    heartbeat.beat()
    assert heartbeat.incarnation != first
    assert watch(sweeper.sweep, clock, seconds=2) == 1
    assert redis.zrange(KEYS.workers, 0, -1) == [str(heartbeat.incarnation).encode()]


@pytest.mark.parametrize("refused", ["a right", "a key of another type"])
def test_a_chore_that_redis_refuses_keeps_no_worker_from_being_swept(
    server: Server, redis: Redis, clock: Clock, caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    rules = ["-hrandfield"] if refused == "a right" else []
    redis.execute_command("ACL", "SETUSER", "sweeper", "reset", "on", "nopass", "~*", "&*", "+@all", *rules)
    if not rules:
        redis.set(KEYS.stuck, "of another type")
    take(redis, "a")
    with connect(Settings(redis_url=server.url.replace("redis://", "redis://sweeper:any@"))) as user:
        assert watch(Sweeper(user, KEYS, clock=clock).turn, clock, seconds=100) == 1
    assert [record.levelname for record in caplog.records if "not cleared away" in record.message] == ["WARNING"]


def test_a_bridge_that_was_heard_of_since_is_not_unregistered(redis: Redis) -> None:
    bridge = Heartbeat(redis, KEYS, kind="bridge", name="b")
    bridge.beat()
    seen = float(redis.zscore(KEYS.bridges, "b") or 0)
    bridge.beat()
    assert not unregister(redis, KEYS, "bridge", "b", beat=seen)
    assert redis.exists(KEYS.bridges, KEYS.bridge_status) == 2
    assert unregister(redis, KEYS, "bridge", "b", beat=float(redis.zscore(KEYS.bridges, "b") or 0))
    assert not redis.exists(KEYS.bridges, KEYS.bridge_status)

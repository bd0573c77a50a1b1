"""Who wakes an idle worker, and what that costs Redis. A worker that would look for itself in ten minutes was woken."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from lowtide.config import load_settings
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.queues import lists_of, worker_queues
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.rights import Access
from lowtide.tasks.waking.queue_watch import QueueWatch
from tests.integration.bare_fleet import PREFIX, Fleet, Server
from tests.waiting import until

NEVER = {"BARE_LOOK_S": "600"}
QUIET_S = 1.0
MESSAGE_BYTES = 150_000


@pytest.fixture
def ours(fleet: Fleet) -> Iterator[Celery]:
    """An application that sends with our app."""
    app = App("ours", set_as_current=False)
    app.conf.update({**celery_config(fleet.settings), "task_routes": ()})
    yield app
    app.close()


def record(app: Celery, value: str, *, queue: str = "lowtide.m", **options: Any) -> None:
    app.send_task("record", ["out", value], queue=queue, **options)


def waiting(fleet: Fleet) -> int:
    return int(fleet.redis.info("clients")["blocked_clients"])


def told(redis: Redis) -> list[dict[str, str]]:
    """The connections that are told of changes."""
    return [client for client in redis.client_list() if "t" in client["flags"]]


def waits(fleet: Fleet) -> int:
    """How often workers have waited; each wait that ended was a wake."""
    return int(fleet.redis.info("commandstats").get("cmdstat_blpop", {"calls": 0})["calls"])


def test_a_task_that_is_sent_with_our_app_wakes_a_worker(fleet: Fleet, ours: Celery) -> None:
    fleet.worker(**NEVER)
    for number, queue in enumerate(worker_queues(["m"])):
        for priority in (0, 9):
            until(lambda: waiting(fleet) == 1, what="the worker waits")
            record(ours, value := f"{number}.{priority}", queue=queue, priority=priority)
            until(lambda value=value: value in fleet.out(), what="done")


def test_many_tasks_in_one_write_wake_many_workers(fleet: Fleet, ours: Celery) -> None:
    workers = [fleet.worker(slot=slot, threads=1, **NEVER) for slot in "abc"]
    until(lambda: waiting(fleet) == len(workers), what="all wait")

    message = ours.amqp.as_task_v2("", "hold", ["out", "?"]).headers
    with ours.producer_or_acquire() as producer, producer.batch(max_size=2):
        for number in range(5):
            body = (["out", str(number)], {}, {})
            headers = {**message, "id": f"task-{number}"}
            producer.publish(body, exchange="", routing_key="lowtide.m.topic", serializer="json", headers=headers)
    until(lambda: len(fleet.out("started:out")) == len(workers), what="each has begun one")
    fleet.let_go(5)
    until(lambda: len(fleet.out()) == 5, what="done")
    until(lambda: waiting(fleet) == len(workers), what="all wait again")


def test_a_task_of_a_stock_application_wakes_a_worker(fleet: Fleet) -> None:
    fleet.worker(quiet_s=QUIET_S, **NEVER)
    until(lambda: told(fleet.redis), what="one worker leads")
    for number, queue in enumerate(worker_queues(["m"])):
        for priority in (0, 9):
            until(lambda: waiting(fleet) == 1, what="the worker waits")
            record(fleet.publisher, value := f"{number}.{priority}", queue=queue, priority=priority)
            until(lambda value=value: value in fleet.out(), what="done")


def test_the_successor_of_a_leader_that_vanished_wakes_workers(fleet: Fleet) -> None:
    first = fleet.worker(slot="a", quiet_s=QUIET_S, **NEVER)
    (leader,) = until(lambda: told(fleet.redis), what="the first leads")
    fleet.worker(slot="b", quiet_s=QUIET_S, **NEVER)
    first.kill()
    until(lambda: [one for one in told(fleet.redis) if one["id"] != leader["id"]], what="the second leads")
    record(fleet.publisher, "x")
    until(lambda: fleet.out() == ["x"], what="done")


def test_a_task_that_a_vanished_worker_held_wakes_another(fleet: Fleet, ours: Celery) -> None:
    first = fleet.worker(slot="a", **NEVER)
    ours.send_task("hold", ["out", "x"], queue="lowtide.m")
    until(lambda: fleet.out("started:out") == ["x"], what="begun")
    fleet.worker(slot="b", quiet_s=QUIET_S, **NEVER)
    until(lambda: told(fleet.redis) and waiting(fleet) == 2, what="both wait, the second leads")
    first.kill()
    until(lambda: fleet.out("started:out") == ["x", "x"], what="begun again")


def test_a_worker_that_was_not_woken_looks_for_itself(fleet: Fleet, ours: Celery) -> None:
    fleet.worker(BARE_LOOK_S="0.2")
    record(fleet.publisher, "of a stock application, without a leader")
    record(fleet.publisher, "in a queue that is not ours", queue="other")
    record(ours, "in a queue that is not ours, by our app", queue="other")
    until(lambda: len(fleet.out()) == 3, what="done")


def test_a_queue_that_is_added_later_wakes_the_worker_too(fleet: Fleet, ours: Celery) -> None:
    fleet.worker(**NEVER)
    control = fleet.publisher.control
    until(lambda: waiting(fleet) == 1)
    for queue in worker_queues(["n"]):
        until(lambda queue=queue: control.add_consumer(queue, reply=True), what="it listens to it, too")
    record(ours, "n", queue="lowtide.n")
    until(lambda: fleet.out() == ["n"], what="done")


def test_only_the_worker_that_gets_it_is_sent_a_payload_and_only_it_is_woken(fleet: Fleet, ours: Celery) -> None:
    pushes = 20

    def push(*, workers: int) -> None:
        fleet.redis.delete("out")
        for number in range(pushes):
            until(lambda: waiting(fleet) == workers, what="all wait")
            record(ours, str(number).ljust(MESSAGE_BYTES))
            until(lambda number=number: fleet.redis.llen("out") == number + 1, what="done")
        until(lambda: waiting(fleet) == workers, what="all wait")

    for slot in "abc":
        fleet.worker(slot=slot, **NEVER)
    until(lambda: waiting(fleet) == 3, what="all wait")
    waited = waits(fleet)
    push(workers=3)
    assert waits(fleet) - waited == pushes

    fleet.worker(slot="d", quiet_s=60, **NEVER)
    until(lambda: told(fleet.redis), what="it leads")  # and wakes another, too, while one is slow to take
    before = fleet.redis.info("stats")["total_net_output_bytes"]
    push(workers=4)
    assert fleet.redis.info("stats")["total_net_output_bytes"] - before < 1.2 * pushes * MESSAGE_BYTES


def test_a_worker_that_is_deaf_to_a_queue_leaves_its_wakes_to_others(fleet: Fleet, ours: Celery) -> None:
    fleet.worker(slot="a", **NEVER, BARE_PATIENCE_S="600")
    until(lambda: waiting(fleet) == 1, what="the one that will be deaf waits first")
    fleet.worker(slot="b", **NEVER)
    until(lambda: waiting(fleet) == 2, what="both wait")
    until(
        lambda: fleet.publisher.control.cancel_consumer("lowtide.m", destination=["wa@test"], reply=True),
        what="it is deaf",
    )
    for number in range(6):
        until(lambda: waiting(fleet) == 2, what="both wait")
        record(ours, str(number))
        until(lambda number=number: fleet.redis.llen("out") == number + 1, what="done")


def test_a_worker_that_is_deaf_to_a_queue_hears_the_others_once_a_second(fleet: Fleet, ours: Celery) -> None:
    fleet.worker(BARE_LOOK_S="0.2", BARE_PATIENCE_S="600")
    until(lambda: fleet.publisher.control.cancel_consumer("lowtide.m", reply=True), what="it is deaf")
    record(ours, "topic", queue="lowtide.m.topic")
    until(lambda: fleet.out() == ["topic"], what="done")
    record(ours, "unheard")
    time.sleep(1)
    assert fleet.redis.exists(fleet.keys.wake("m")), "it removes no token of a task that it does not see"


def test_a_worker_that_is_not_registered_passes_its_wake_on(fleet: Fleet, ours: Celery) -> None:
    first = fleet.worker(slot="a", **NEVER, BARE_BEAT_S="600")
    until(lambda: waiting(fleet) == 1, what="the one that will be removed waits first")
    (incarnation,) = fleet.redis.zrange(fleet.keys.workers, 0, -1)
    fleet.worker(slot="b", **NEVER)
    until(lambda: waiting(fleet) == 2, what="both wait")
    fleet.redis.zrem(fleet.keys.workers, incarnation)
    record(ours, "x")
    until(lambda: fleet.out() == ["x"], what="done")
    assert first.poll() is None
    until(lambda: waiting(fleet) == 2, what="it has registered anew")
    assert fleet.redis.zcard(fleet.keys.workers) == 2


def test_tokens_do_not_stay(fleet: Fleet, ours: Celery) -> None:
    wake = fleet.keys.wake("m")
    for number in range(40):
        record(ours, str(number))
    assert fleet.redis.llen(wake) == 32
    assert 0 < fleet.redis.ttl(wake) <= 10

    fleet.worker(**NEVER)
    until(lambda: len(fleet.out()) == 40, what="done")
    until(lambda: waiting(fleet) == 1, what="the worker waits")
    assert not fleet.redis.exists(wake)


class Lists:
    """What a leader looks at."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.redis = server.redis
        self.redis.flushall()
        self.keys = Keys(PREFIX)
        self.watch = QueueWatch(connect(load_settings(redis_url=server.url)), self.keys, ["m", "n"], **options)

    def push(self, queue: str) -> None:
        self.redis.lpush(self.keys.queue(queue), "a task")

    def tokens(self) -> tuple[int, int]:
        return self.redis.llen(self.keys.wake("m")), self.redis.llen(self.keys.wake("n"))


def test_a_look_leaves_one_token_where_something_waits(server: Server) -> None:
    lists = Lists(server)
    lists.watch.look()
    assert lists.tokens() == (0, 0)
    for queue in worker_queues(["n"]):
        for each in lists_of(queue):
            lists.redis.flushall()
            lists.push(each)
            lists.watch.look()
            lists.watch.look()
            assert lists.tokens() == (0, 1)
    assert 0 < lists.redis.ttl(lists.keys.wake("n")) <= 10


def test_who_watches_an_idle_fleet_asks_nothing(server: Server) -> None:
    lists = Lists(server)
    lists.push("lowtide.m")
    lists.watch.start()
    until(lambda: lists.tokens() == (1, 0), what="the first look")
    before = lists.redis.info("stats")["total_commands_processed"]
    lists.redis.set("of another application", "x")
    lists.redis.set(f"{PREFIX}lt:something", "x")
    lists.watch.stop()
    assert lists.redis.info("stats")["total_commands_processed"] - before == 3


def test_where_redis_does_not_tell_it_is_asked_instead_and_that_is_said_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    rules = Access(prefix=PREFIX, db=0).rules.replace("+client|tracking", "-client").split()
    server.redis.execute_command("ACL", "SETUSER", "fleet", "reset", "on", ">password", *rules)
    url = server.url.replace("redis://", "redis://fleet:password@")
    keys = Keys(PREFIX)
    watch = QueueWatch(connect(load_settings(redis_url=url)), keys, ["m"], untold_s=0.01)
    with caplog.at_level(logging.INFO, logger="lowtide.tasks.waking.queue_watch"):
        watch.start()
        for _ in range(3):
            server.redis.delete(keys.wake("m"))
            server.redis.lpush(keys.queue("lowtide.m"), "a task")
            until(lambda: server.redis.llen(keys.wake("m")), what="a token")
        watch.stop()
    assert [record.message.partition(":")[0] for record in caplog.records] == ["Redis doesn't tell what changes"]


def test_who_is_told_has_a_bounded_buffer_in_redis(server: Server) -> None:
    lists = Lists(server)
    lists.watch.start()
    until(lambda: told(lists.redis), what="it is told")
    assert [client["sub"] for client in told(lists.redis)] == ["1"], "so the limit of subscribers holds for it"
    lists.watch.stop()
    until(lambda: not told(lists.redis))


def test_a_watch_begins_anew_after_its_connection_broke(server: Server) -> None:
    lists = Lists(server)
    lists.watch.start()
    until(lambda: told(lists.redis), what="it is told")
    for client in told(lists.redis):
        lists.redis.client_kill_filter(_id=client["id"])
    lists.push("lowtide.m")
    until(lambda: lists.tokens() == (1, 0), what="a token")
    lists.watch.stop()

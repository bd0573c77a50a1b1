import re
import time
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from lowtide.cli.checks import checks
from lowtide.cli.fleet.unread import UnreadReader
from lowtide.config import Settings
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import announce


@pytest.fixture
def redis(redis: Redis) -> Redis:
    announce(redis, Keys(""), ["digits"])
    return redis


def send(redis_url: str, queue: str, transport: dict[str, Any] | None = None, **options: Any) -> None:
    """What a stock caller sends who knows nothing of us."""
    app = Celery("stock", broker=redis_url, set_as_current=False)
    app.conf.broker_transport_options = transport or {}
    app.send_task("lowtide.infer", [{"model": "digits", "uri": "gs://b/1"}], queue=queue, ignore_result=True, **options)
    app.close()


def unread(redis: Redis, redis_url: str, **settings: Any) -> dict[str, tuple[int, float | None, str]]:
    found = UnreadReader(redis, Settings(redis_url=redis_url, **settings)).read()
    return {one.name: (one.tasks, one.oldest_s, one.why) for one in found}


def test_a_model_that_nobody_serves_is_told_with_the_age_of_its_oldest_task(redis: Redis, redis_url: str) -> None:
    for sent_at in (time.time() - 600, time.time()):
        send(redis_url, "lowtide.digit", headers={"lowtide-at": sent_at})
    send(redis_url, "lowtide.digit.high")
    send(redis_url, "lowtide.digits")
    found = unread(redis, redis_url)

    assert found.keys() == {"lowtide.digit", "lowtide.digit.high"}
    assert found["lowtide.digit"][0] == 2
    assert found["lowtide.digit"][1] == pytest.approx(600, abs=30)
    assert found["lowtide.digit"][2] == "digit is not served here; served are digits"


def test_a_task_that_does_not_say_when_it_was_sent_has_been_there_since_it_was_first_seen_at_least(
    redis: Redis, redis_url: str
) -> None:
    send(redis_url, "lowtide")
    assert unread(redis, redis_url)["lowtide"][:2] == (1, pytest.approx(0, abs=30))
    redis.hset(Keys("").unread, "lowtide", str(int(time.time()) - 3600))
    assert unread(redis, redis_url)["lowtide"][1] == pytest.approx(3600, abs=30)
    redis.delete("lowtide")
    assert unread(redis, redis_url) == {}
    assert not redis.exists(Keys("").unread)


def test_lists_of_a_separator_that_workers_do_not_read_are_told_and_those_of_any_step_are_not(
    redis: Redis, redis_url: str
) -> None:
    steps = list(range(10))
    send(redis_url, "lowtide.digits", {"priority_steps": steps, "sep": ":"}, priority=5)
    send(redis_url, "lowtide.digits", {"priority_steps": steps}, priority=5)
    found = unread(redis, redis_url)

    assert found.keys() == {"lowtide.digits:5"}
    assert "kombu's own separator" in found["lowtide.digits:5"][2]


def test_what_is_served_is_what_the_fleet_and_its_workers_say_and_not_our_own_settings(
    redis: Redis, redis_url: str
) -> None:
    send(redis_url, "lowtide.newer")
    send(redis_url, "lowtide.mine")
    Heartbeat(redis, Keys(""), kind="worker", name="w", status=lambda: {"models": ["newer"]}).beat()
    assert unread(redis, redis_url, models="mine=lowtide.x:Y").keys() == {"lowtide.mine"}
    redis.delete(Keys("").models)
    assert unread(redis, redis_url, models="mine=lowtide.x:Y") == {}


def test_nothing_of_others_is_shown(redis: Redis, redis_url: str) -> None:
    redis.lpush("lowtide-web", "theirs")
    redis.lpush("lowtidal", "theirs")
    redis.lpush("other:lowtide.digit", "another fleet's")
    redis.set("lowtide.cache", "no list")
    send(redis_url, "celery")

    assert unread(redis, redis_url) == {}
    assert "every list" in next(iter(checks.queues(Settings(redis_url=redis_url)))).message


def test_the_doctor_says_what_to_do(redis: Redis, redis_url: str) -> None:
    send(redis_url, "lowtide.digit")
    [finding] = checks.queues(Settings(redis_url=redis_url))

    assert re.search(r"lowtide\.digit: 1 task waits that nobody reads, the oldest for \d s", finding.message)
    assert "LOWTIDE_MODELS" in finding.remedy


def test_who_may_only_read_sees_them_too(redis: Redis, redis_url: str) -> None:
    send(redis_url, "lowtide.digit")
    redis.acl_setuser(
        "reader",
        enabled=True,
        passwords=["+x"],
        keys=["*"],
        categories=["+@read", "+@connection"],
        commands=["+time", "+evalsha", "+eval", "+script", "+object"],
    )
    try:
        reader = redis_url.replace("redis://", "redis://reader:x@")
        with Redis.from_url(reader) as client:
            assert unread(client, reader).keys() == {"lowtide.digit"}
    finally:
        redis.acl_deluser("reader")

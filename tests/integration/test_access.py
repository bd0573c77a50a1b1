import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis, ResponseError

from lowtide.cli.checks import redis as check_redis
from lowtide.cli.checks.findings import Verdict
from lowtide.config import Settings
from lowtide.local.redis import EmbeddedRedis, find_redis
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.epoch import Epoch
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.rights import COMMANDS, Access, Lack, Rights
from tests.clock import Clock

ROOT = Path(__file__).resolve().parents[2]
ACCESS = Access(prefix="fleet1:", db=0)
KEYS = Keys(ACCESS.prefix)

Let = Callable[..., Settings]


@pytest.fixture
def let(redis_url: str) -> Iterator[Let]:
    """Settings of a user with these rules, in their order."""
    with Redis.from_url(redis_url) as admin:

        def make(*rules: str) -> Settings:
            admin.execute_command("ACL", "SETUSER", "fleet1", "reset", "on", ">password", *rules)
            url = redis_url.replace("redis://", "redis://fleet1:password@")
            return Settings(redis_url=url, prefix="fleet1:")

        yield make
        admin.execute_command("ACL", "DELUSER", "fleet1")


def without(rule: str) -> list[str]:
    return [each for each in ACCESS.rules.split() if each != rule]


def test_the_rules_that_are_documented_are_all_that_a_fleet_needs(let: Let) -> None:
    settings = let(*ACCESS.rules.split())

    assert Access.of(settings) == ACCESS
    assert ACCESS.missing(connect(settings)) == []
    assert f"ACL SETUSER fleet1 on >password {ACCESS.rules}\n" in (ROOT / "SECURITY.md").read_text()


def test_by_these_rules_a_vanished_worker_s_task_goes_back(let: Let) -> None:
    redis, turns = connect(let(*ACCESS.rules.split())), list[int]()
    Heartbeat(redis, KEYS, kind="worker", name="0a").beat()
    redis.hset(KEYS.held("0a"), "tag", f"{KEYS.queue('lowtide.m')}\n\na message")
    sweeper = Sweeper(redis, KEYS, clock=lambda: 2.0 * len(turns))
    while len(turns) < 20:
        turns.append(sweeper.turn())
    assert sum(turns) == 1
    assert redis.lrange(KEYS.queue("lowtide.m"), 0, -1) == [b"a message"]


@pytest.mark.parametrize(
    "rule", [ACCESS.keys, *(f"&{name}" for name in (ACCESS.control, ACCESS.events, ACCESS.results))]
)
def test_a_rule_that_is_missing_is_the_one_that_is_named(let: Let, rule: str) -> None:
    settings = let(*without(rule))

    assert [lack.rule for lack in ACCESS.missing(connect(settings))] == [rule]


def test_a_rule_for_all_channels_of_the_prefix_does_not_let_a_pattern_pass(let: Let) -> None:
    lacks = ACCESS.missing(connect(let("~fleet1:*", "resetchannels", "&fleet1:*", "+@all", "-@dangerous")))

    assert [lack.rule for lack in lacks] == [f"&{ACCESS.control}", f"&{ACCESS.events}"]


@pytest.mark.parametrize("command", ["publish", "psubscribe", "evalsha", "get", "lpush", "multi", "zadd", "blpop"])
def test_a_command_that_is_missing_is_named(let: Let, command: str) -> None:
    lacks = ACCESS.missing(connect(let(*ACCESS.rules.split(), f"-{command}")))

    assert {lack.rule for lack in lacks} == {f"+{command}"}
    assert not any(lack.is_place for lack in lacks)


def test_every_command_of_a_script_is_tried() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "tasks").rglob("*.lua"))

    assert set(re.findall(r"call\('([A-Z]+)'", scripts)) <= {command.split(" ")[0] for command in COMMANDS} | {
        "PUBLISH"
    }


def test_what_is_tried_does_nothing(let: Let, redis_url: str) -> None:
    settings = let(*ACCESS.rules.split())
    with Redis.from_url(redis_url) as admin:
        ACCESS.missing(connect(settings))
        assert admin.dbsize() == 0
        assert admin.pubsub_numpat() == 0
    assert len(set(COMMANDS)) == len(COMMANDS)


def test_what_keeps_every_fleet_from_working_is_no_question_of_rights(let: Let, redis_url: str) -> None:
    settings = let(*ACCESS.rules.split())
    with Redis.from_url(redis_url) as admin:
        admin.set("x", "x" * 1000)
        admin.config_set("maxmemory", 1)
        try:
            with pytest.raises(ResponseError, match="maxmemory"):
                ACCESS.missing(connect(settings))
            assert not Rights(settings)._lacks_a_place(), "a worker of a full Redis starts, and empties it"
        finally:
            admin.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--rename-command EVALSHA ''", "it does not know EVALSHA"),
        ("--rename-command PSUBSCRIBE ''", "it does not know PSUBSCRIBE"),
        ("--rename-command MULTI ''", "it does not know MULTI"),
        ("--replicaof 127.0.0.1 1", "it is a replica"),
        ("--cluster-enabled yes", "it is a cluster"),
    ],
)
def test_the_doctor_tells_of_a_redis_with_which_no_fleet_works(tmp_path: Path, option: str, words: str) -> None:
    script = tmp_path / "redis-server"
    script.write_text(f'#!/bin/sh\nexec {find_redis()} "$@" {option}\n')
    script.chmod(0o700)
    with EmbeddedRedis(tmp_path / "redis", binary=str(script)) as odd:
        findings = list(check_redis.redis(Settings(redis_url=odd.url)))

    assert [finding.verdict for finding in findings] == [Verdict.FAILED]
    assert words in findings[0].message


def test_a_process_waits_for_its_rights_and_tells_of_each_once(let: Let, caplog: pytest.LogCaptureFixture) -> None:
    settings, clock = let(*without(f"&{ACCESS.events}"), "-scan"), Clock(0.0)

    def sleep(seconds: float) -> None:
        if clock.pass_(seconds) >= 5:
            let(*ACCESS.rules.split())

    with caplog.at_level(logging.INFO):
        Rights(settings, sleep=lambda _: pytest.fail("a bridge needs no events"), remote=False).wait()
        caplog.clear()
        Rights(settings, sleep=sleep, clock=clock).wait()

    assert 1 + 2 + 4 <= clock.now_s < 1 + 2 + 4 + 1, "each pause is twice the last"
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Redis: the user fleet1 may not use command SCAN → ACL SETUSER fleet1 +scan",
        f"Redis: the user fleet1 may not use channel {ACCESS.events}, Celery's events, which Flower shows"
        f" → ACL SETUSER fleet1 &{ACCESS.events}",
    ]


def test_who_ends_meanwhile_waits_no_longer(let: Let) -> None:
    class Ended(Exception):
        pass

    def look() -> None:
        raise Ended

    with pytest.raises(Ended):
        Rights(let("+@all")).wait(look)
    with pytest.raises(Ended):
        Rights(let(*ACCESS.rules.split())).wait(look, refused=True)


def test_without_info_a_redis_that_lost_everything_is_noticed(let: Let, redis_url: str) -> None:
    settings = let(*without("+info"))
    epoch = Epoch(connect(settings), Keys.of(settings))
    assert not epoch.changed()
    assert not epoch.changed()
    with Redis.from_url(redis_url) as admin:
        admin.flushall()

    assert epoch.changed()


def test_without_info_the_doctor_says_what_it_can_not_see(let: Let) -> None:
    (finding,) = check_redis.redis(let(*without("+info")))

    assert finding.verdict is Verdict.WARNING
    assert "may not run INFO" in finding.message
    assert finding.remedy == "ACL SETUSER fleet1 +info, and no rename-command of it"


def test_the_doctor_names_the_rule_that_is_missing(let: Let) -> None:
    findings = list(check_redis.redis(let(*without(f"&{ACCESS.control}"))))

    failed = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    assert [finding.remedy for finding in failed] == [f"ACL SETUSER fleet1 &{ACCESS.control}"]


def test_a_lack_is_named_by_its_kind() -> None:
    assert Lack(what="", rule="~*").is_place
    assert not Lack(what="", rule="+get").is_place

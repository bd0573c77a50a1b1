"""`lowtide status` on a real Redis, in which bridges and workers have signed in."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis

from lowtide.cli.main import main
from lowtide.tasks.keys import Keys
from lowtide.tasks.presence import Kind, Presence
from tests.fleet import LOWTIDE

KEYS = Keys("fleet:")
BUSY = {"busy": True, "in_process": 12, "rates": {"digits": 0.002}, "done": {"ok": 900, "failed": 1}}


@pytest.fixture
def env(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    wanted = {"LOWTIDE_REDIS_URL": redis_url, "LOWTIDE_PREFIX": KEYS.prefix, "LOWTIDE_FLEET_WORK_S": "2"}
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    return wanted


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


class Signed:
    """Bridges and workers that keep signing in, as live ones do."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._signed: dict[str, Presence] = {}

    def sign_in(self, kind: Kind, name: str, word: Mapping[str, Any]) -> None:
        self._signed[name] = Presence(self._redis, KEYS, kind=kind, name=name, word=lambda: word)
        self._signed[name].start()

    def sign_off(self, name: str) -> None:
        self._signed.pop(name).stop()

    def close(self) -> None:
        for name in list(self._signed):
            self.sign_off(name)


@pytest.fixture
def signed(redis: Redis) -> Iterator[Signed]:
    signed = Signed(redis)
    yield signed
    signed.close()


@contextlib.contextmanager
def running(*options: str, **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """`lowtide status`, which ends with the block however that ends."""
    with subprocess.Popen([*LOWTIDE, "status", *options], **how) as process:
        try:
            yield process
        finally:
            process.kill()


def push(redis: Redis, queue: str, requests: int) -> None:
    properties = {"delivery_tag": str(uuid.uuid4())}
    redis.lpush(KEYS.queue(queue), json.dumps({"headers": {"lowtide-n": requests}, "properties": properties}))


@pytest.fixture
def filled(redis: Redis, signed: Signed, env: dict[str, str]) -> Redis:
    signed.sign_in("worker", "vm-1:0:17", BUSY)
    signed.sign_in("bridge", "b1", {"leased": 300, "models": {"digits": 256}, "oldest_at": 1.0, "at_risk": 4})
    redis.hset(KEYS.rates, "digits", "0.01")
    push(redis, "lowtide.digits.topic", 256)
    push(redis, "lowtide.digits", 100)
    return redis


def look(*options: str) -> str:
    result = CliRunner().invoke(main, ["status", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_empty_fleet_without_work_needs_nobody(redis: Redis, env: dict[str, str]) -> None:
    said = json.loads(look("--json"))
    assert (said["workers"], said["bridges"], said["gpu_seconds_outstanding"], said["oldest_s"]) == ([], [], 0, None)
    assert said["backlog"] == {"digits": {"queued": 0, "held": 0, "left_behind": 0}}
    assert said["recommendation"] == {"size": 0, "reason": "0: gpu_seconds_outstanding is 0 and asks for 0"}


def test_the_work_is_told_with_the_size_that_it_asks_for(filled: Redis) -> None:
    said = json.loads(look("--json"))

    assert said["backlog"]["digits"] == {"queued": 356, "held": 0, "left_behind": 0}
    assert said["requests_outstanding"] == 400  # 300 that a bridge has, 256 of them in Redis, and a caller's 100
    assert said["gpu_seconds_outstanding"] == pytest.approx(4.0)
    assert said["recommendation"]["size"] == 2
    assert said["oldest_s"] > 1e9
    assert said["at_risk"] == 4
    [worker] = said["workers"]
    assert (worker["name"], worker["state"], worker["in_process"]) == ("vm-1:0:17", "busy", 12)


def test_a_person_sees_the_same(filled: Redis) -> None:
    said = " ".join(look().split())

    for part in ("1 workers, 1 bridges", "400 requests, 4.0 s", "Recommended size 2: gpu", "vm-1:0:17", "busy", "356"):
        assert part in said


def test_watching_goes_on_until_it_is_interrupted_and_remembers(filled: Redis, signed: Signed) -> None:
    with running("--watch", "--json", "--every", "0.1s", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        sizes = [json.loads(process.stdout.readline())["recommendation"]["size"]]
        filled.delete(KEYS.queue("lowtide.digits.topic"), KEYS.queue("lowtide.digits"))
        signed.sign_off("b1")
        while (latest := json.loads(process.stdout.readline()))["requests_outstanding"]:
            sizes.append(latest["recommendation"]["size"])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    assert latest["recommendation"]["size"] == 2
    assert "2 were needed in the last 600 s" in latest["recommendation"]["reason"]


def test_in_a_terminal_the_view_is_live_and_leaves_the_screen_as_it_was(filled: Redis) -> None:
    ours, theirs = pty.openpty()
    how = {"stdout": theirs, "env": {**os.environ, "TERM": "xterm"}}
    with running("--watch", "--every", "0.1s", **how) as process:
        os.close(theirs)
        seen = b""
        while seen.count(b"400 requests") < 2:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # Linux' word for a terminal that nobody has open any more
            while more := os.read(ours, 65536):
                seen += more
        process.wait(20)
    os.close(ours)
    assert process.returncode == 0
    assert b"vm-1:0:17" in seen
    enter, leave = b"\x1b[?1049h", b"\x1b[?1049l"
    assert seen.index(enter) < seen.index(leave)


def test_a_redis_that_is_away_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://user:hunter2@127.0.0.1:1/0")
    result = CliRunner().invoke(main, ["status"])

    assert result.exit_code == 1
    assert "LOWTIDE_REDIS_URL does not answer" in result.output
    assert "hunter2" not in result.output

"""`lowtide status` on a real Redis, in which bridges and workers have signed in, and a real server of Monitoring."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis

from lowtide.autoscaling.export.monitoring import TIMEOUT_S, Monitoring
from lowtide.autoscaling.export.monitoring_reader import READ_S
from lowtide.autoscaling.export.samples import Sample
from lowtide.autoscaling.signal.last_value import SourceUnreadable
from lowtide.cli.main import main
from lowtide.config import load_settings
from lowtide.config.metrics import GPU_SECONDS_OUTSTANDING
from lowtide.local.monitoring.server import MonitoringServer
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.moves import Moves
from lowtide.tasks.held.room import Budget, Turns
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import Kind, announce
from tests.fleet import LOWTIDE
from tests.ports import steady_port
from tests.waiting import until

KEYS = Keys("fleet:")
SUBSCRIPTION = "projects/p/subscriptions/lowtide-requests"
BUSY = {"busy": True, "in_process": 12, "rates": {"digits": 0.002}, "done": {"ok": 900, "failed": 1}}


@pytest.fixture
def env(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    wanted = {"LOWTIDE_REDIS_URL": redis_url, "LOWTIDE_PREFIX": KEYS.prefix, "LOWTIDE_FLEET_WORK_S": "2"}
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    for name in ("LOWTIDE_PROJECT", "LOWTIDE_MONITORING_HOST", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    return wanted


@pytest.fixture
def undelivered() -> int:
    return 3000


@pytest.fixture
def monitoring(env: dict[str, str], undelivered: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitoring]:
    """Cloud Monitoring, in which Pub/Sub says that so many messages wait."""
    with MonitoringServer(undelivered=lambda: {SUBSCRIPTION: undelivered}) as server:
        monkeypatch.setenv("LOWTIDE_PROJECT", "p")
        monkeypatch.setenv("LOWTIDE_MONITORING_HOST", server.address)
        client = Monitoring(load_settings())
        yield client
        client.close()


def counted(monitoring: Monitoring) -> bool:
    try:
        return monitoring.undelivered().messages == 3000
    except SourceUnreadable:
        return False


@pytest.fixture
def own_redis(env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRedis]:
    """A Redis that a test starts and stops."""
    port = steady_port()
    server = EmbeddedRedis(tmp_path / "redis", port=port)
    monkeypatch.setenv("LOWTIDE_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    yield server
    server.stop()


class Signed:
    """Bridges and workers that keep signing in, as live ones do."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._signed: dict[str, Heartbeat] = {}

    def sign_in(self, kind: Kind, name: str, status: Mapping[str, Any]) -> None:
        self._signed[name] = Heartbeat(self._redis, KEYS, kind=kind, name=name, status=lambda: status)
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
    signed.sign_in("bridge", "b1", {"leased": 300, "oldest_at": 1.0, "at_risk": 4})
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
    states = ("queued", "held", "left_behind", "reserved", "running")
    assert said["backlog"] == {"digits": dict.fromkeys(states, 0)}
    reason = "0: gpu_seconds_outstanding is 0 and asks for 0; without the group's memory"
    assert said["recommendation"] == {"size": 0, "reason": reason}


def test_the_work_is_told_with_the_size_that_it_asks_for(filled: Redis) -> None:
    said = json.loads(look("--json"))

    assert (said["backlog"]["digits"]["queued"], said["backlog"]["digits"]["held"]) == (356, 0)
    assert said["requests_outstanding"] == 400  # 300 that a bridge has, 256 of them in Redis, and a caller's 100
    assert said["gpu_seconds_outstanding"] == pytest.approx(4.0)
    assert said["recommendation"]["size"] == 2
    assert said["oldest_s"] > 1e9
    assert said["at_risk"] == 4
    [worker] = said["workers"]
    assert (worker["name"], worker["state"], worker["in_process"]) == ("vm-1:0:17", "busy", 12)


def test_the_models_are_those_of_the_fleet_whatever_our_own_settings_say(
    redis: Redis, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_MODELS", "mine=lowtide.x:Y")
    announce(redis, KEYS, ["resnet101"])
    redis.hset(KEYS.rates, "resnet101", "0.5")
    push(redis, "lowtide.resnet101", 7)
    said = json.loads(look("--json"))

    assert {model: states["queued"] for model, states in said["backlog"].items()} == {"resnet101": 7}
    assert said["requests_outstanding"] == 7
    assert said["gpu_seconds_outstanding"] == pytest.approx(3.5)


def test_what_is_held_runs_or_is_reserved(filled: Redis, signed: Signed) -> None:
    signed.sign_in("worker", "vm-2:0:18", BUSY | {"running": {"digits": 30}})
    signed.sign_in("worker", "vm-3:0:19", BUSY | {"running": {"digits": 26, "gone": 1}})
    taken = Moves(filled, KEYS).take(
        "vm-2:0:18", queues=["lowtide.digits"], seconds=[0.0], budget=Budget(messages=1, work_s=1.0), turns=Turns(0.1)
    )
    assert taken is not None
    assert len(taken.messages) == 1
    states = {"queued": 256, "held": 100, "left_behind": 0, "reserved": 44, "running": 56}
    assert json.loads(look("--json"))["backlog"] == {"digits": states}
    assert "digits │ 256 │ 44 │ 56 │ 0 │ 0.01" in " ".join(look().split())

    signed.sign_off("vm-3:0:19")
    signed.sign_in("worker", "vm-3:0:19", BUSY | {"running": {"digits": 200}})  # said before the last one ended
    said = json.loads(look("--json"))["backlog"]["digits"]
    assert (said["held"], said["reserved"], said["running"]) == (100, 0, 100)


def test_a_worker_that_drains_is_told(filled: Redis, signed: Signed) -> None:
    signed.sign_in("worker", "vm-2:0:18", BUSY | {"draining": True})
    assert [worker["state"] for worker in json.loads(look("--json"))["workers"]] == ["busy", "draining"]


def test_what_fails_and_comes_again_is_told_with_its_reason(filled: Redis, signed: Signed) -> None:
    retrying = {"why": "gs://b/1.jpg: 503 \x1b[31m", "ago_s": 9.4, "count": 1200}
    signed.sign_in("worker", "vm-2:0:18", BUSY | {"retrying": retrying})
    assert [worker["retrying"] for worker in json.loads(look("--json"))["workers"]] == [None, retrying]
    said = "vm-2:0:18: 1,200 tries failed and come again, the last 9 s ago: gs://b/1.jpg: 503 \\x1b[31m"
    assert said in " ".join(look().split())


def test_a_person_sees_the_same(filled: Redis) -> None:
    said = " ".join(look().split())

    for part in ("1 worker, 1 bridge", "400 requests, 4.0 s", "Recommended size 2: gpu", "vm-1:0:17", "busy", "356"):
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
    assert "LOWTIDE_REDIS_URL can't be read" in result.output
    assert "hunter2" not in result.output


def test_what_waits_in_pubsub_counts_as_monitoring_says(filled: Redis, monitoring: Monitoring) -> None:
    until(lambda: counted(monitoring), what="a sample of Pub/Sub's metric")
    said = json.loads(look("--json"))

    assert (said["pubsub_undelivered"], said["pubsub_leased"]) == (3000, 300)
    assert said["requests_outstanding"] == 3100  # and a caller's 100: those at the bridges are among the 3000
    assert said["gpu_seconds_outstanding"] == pytest.approx(31.0)
    assert said["unreadable"] == {}
    assert all(0 <= age_s < READ_S for age_s in said["source_age_s"].values())
    assert "3,000 messages waiting, of which the bridges have 300, 4 at risk" in " ".join(look().split())


def test_pubsubs_count_is_a_signal_of_its_own(
    filled: Redis, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_FLEET_WORK_S", "100")
    monkeypatch.setenv("LOWTIDE_FLEET_MESSAGES", "1000")
    until(lambda: counted(monitoring), what="a sample of Pub/Sub's metric")
    said = json.loads(look("--json"))["recommendation"]

    assert said["size"] == 3
    assert "outstanding is 31 and asks for 1; num_undelivered_messages is 3000 and asks for 3" in said["reason"]
    assert said["reason"].endswith("; without the group's memory"), "nobody wrote what the group would have followed"


def test_a_fleet_without_a_subscription_waits_for_nothing_there(
    redis: Redis, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_SUBSCRIPTION", "")
    said = json.loads(look("--json"))

    assert (said["pubsub_undelivered"], said["unreadable"]) == (0, {})
    assert "num_undelivered_messages" not in said["recommendation"]["reason"]


def test_nobody_need_be_asked_what_waits_in_no_subscription(
    redis: Redis, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_SUBSCRIPTION", "")
    said = json.loads(look("--json"))

    assert said["pubsub_undelivered"] == 0
    assert "pubsub" not in said["unreadable"]


@pytest.mark.parametrize("undelivered", [0])
def test_one_look_has_the_memory_of_the_group(monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_FLEET_MESSAGES", "0")
    for ago_s, work_s in ((700, 30.0), (650, 0.0), (400, 10.0), (385, 0.0), (370, 0.0)):
        monitoring.write([Sample(metric=GPU_SECONDS_OUTSTANDING, value=work_s)], at_s=time.time() - ago_s)
    said = json.loads(look("--json"))["recommendation"]

    assert said["size"] == 5
    assert said["reason"].endswith("5 were needed in the last 600 s")


@pytest.mark.parametrize(
    ("env_too", "why"),
    [
        ({}, "LOWTIDE_PROJECT is not set"),
        ({"LOWTIDE_PROJECT": "p", "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}, "no credentials for Google's Cloud"),
        ({"LOWTIDE_PROJECT": "p", "PUBSUB_EMULATOR_HOST": "localhost:1"}, "at PUBSUB_EMULATOR_HOST"),
        ({"LOWTIDE_PROJECT": "p", "LOWTIDE_MONITORING_HOST": "127.0.0.1:1"}, "failed to connect"),
    ],
)
def test_without_monitoring_pubsubs_count_is_unknown_and_never_zero(
    filled: Redis, env_too: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env_too.items():
        monkeypatch.setenv(name, value)
    said = json.loads(look("--json"))

    assert (said["pubsub_undelivered"], said["source_age_s"]["pubsub"], said["requests_outstanding"]) == (
        None,
        None,
        400,
    )
    assert why in said["unreadable"]["pubsub"]
    assert said["recommendation"]["reason"].endswith("; without the group's memory")
    assert "is missing" not in said["recommendation"]["reason"], "the group may well have what we can't read"
    for_people = " ".join(look().split())
    assert f"how many messages wait there is not known: {said['unreadable']['pubsub']}" in for_people


def test_a_monitoring_that_does_not_answer_costs_a_few_seconds_at_most(
    filled: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("LOWTIDE_PROJECT", "p")
        monkeypatch.setenv("LOWTIDE_MONITORING_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        with running("--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            out, error = process.communicate(timeout=2 * TIMEOUT_S - 1)  # the thread's two calls would take longer
    said = json.loads(out)

    assert (process.returncode, error) == (0, "")
    assert said["unreadable"] == {"pubsub": "no answer so far"}, "it did not wait for the end of the first call"
    assert said["requests_outstanding"] == 400


def remembers(look: Mapping[str, Any]) -> bool:
    return "without the group's memory" not in look["recommendation"]["reason"]


def test_watching_goes_on_while_redis_is_away(own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_FLEET_STABILIZATION_S", "3")
    own_redis.start()
    with Redis.from_url(own_redis.url) as redis:
        push(redis, "lowtide.digits", 100)
    with running("--watch", "--json", "--every", "0.1s", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        own_redis.stop()
        while (old := json.loads(process.stdout.readline()))["source_age_s"]["redis"] < 1 or not remembers(old):
            pass
        own_redis.start()
        while (back := json.loads(process.stdout.readline()))["source_age_s"]["redis"] >= 1:
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    assert (first["requests_outstanding"], "redis" in first["unreadable"]) == (100, False)
    assert "nothing listens there" in old["unreadable"]["redis"]
    assert old["requests_outstanding"] == 100
    assert first["at"] <= old["at"] < back["at"]
    # By then it has watched for longer than a group remembers.
    assert [remembers(look) for look in (first, old, back)] == [False, True, True]
    assert (back["requests_outstanding"], "redis" in back["unreadable"]) == (100, False)


def test_watching_waits_for_a_redis_that_was_never_there(own_redis: EmbeddedRedis) -> None:
    with running("--watch", "--json", "--every", "0.1s", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        own_redis.start()
        while "workers" not in (there := json.loads(process.stdout.readline())):
            assert there["source_age_s"]["redis"] is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    assert first.keys() == {"fleet", "source_age_s", "unreadable"}
    assert "nothing listens there" in first["unreadable"]["redis"]
    assert there["source_age_s"]["redis"] is not None


def test_a_person_who_watches_sees_how_old_the_figures_are(own_redis: EmbeddedRedis) -> None:
    with running("--watch", "--every", "0.1s", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "Fleet default: waiting for Redis, which has not answered for " in process.stdout.readline()
        own_redis.start()
        while "0 workers, 0 bridges" not in process.stdout.readline():
            pass
        own_redis.stop()
        while not re.match(
            r"These figures are old: Redis has not answered for [1-9]\d* s: ", process.stdout.readline()
        ):
            pass
        assert "Fleet default: 0 workers" in process.stdout.readline() + process.stdout.readline()


def test_as_json_it_needs_the_client_alone(filled: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_PROJECT", "p")
    extras = ["cronsim", "google", "grpc", "prometheus_client", "requests", "rich"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({extras}));"  # None: as if it was not installed
        "from lowtide.cli.main import main; main(['status', *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", program]
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    said = json.loads(as_json.stdout)

    assert as_json.stderr == "", "what is away is told in the report alone"
    assert said["requests_outstanding"] == 400
    assert 'is not installed: pip install "lowtide[autoscaling]"' in said["unreadable"]["pubsub"]
    to_look_at = subprocess.run(command, capture_output=True, text=True, check=False)
    assert to_look_at.stderr.startswith("Error: rich")
    assert 'is not installed: pip install "lowtide[autoscaling]"' in to_look_at.stderr

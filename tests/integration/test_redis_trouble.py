"""A Redis that can't be used, as doctor and callers call it."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from redis import Redis

from lowtide.cli.checks import redis as check_redis
from lowtide.cli.checks.findings import Verdict
from lowtide.config import Settings
from lowtide.local.process import free_port
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks import InferenceRequest, RedisUnusable
from lowtide.tasks.client.caller import Caller

Places = dict[str, int]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, certificate) -> Iterator[Places]:
    """Ports: a Redis with a password, a web server, one whose certificate nobody vouches for, and nobody's."""
    with (
        EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis,
        ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web,
        socket.create_server(("127.0.0.1", 0)) as tls,
    ):
        with Redis(port=redis.port) as admin:
            admin.execute_command("ACL", "SETUSER", "noinfo", "on", ">right", "~*", "&*", "+@all", "-llen")
            admin.config_set("requirepass", "right")
        threading.Thread(target=web.serve_forever, daemon=True).start()
        threading.Thread(target=greet, args=(tls, certificate.server_context()), daemon=True).start()
        yield {"redis": redis.port, "web": web.server_port, "tls": tls.getsockname()[1], "nobody": free_port()}
        web.shutdown()


def greet(listening: socket.socket, context: ssl.SSLContext) -> None:
    """Shake hands with whoever comes."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass


TROUBLES: dict[str, tuple[Callable[[Places], str], str]] = {
    "wrong password": (lambda at: f"redis://:hunter2@127.0.0.1:{at['redis']}", "refuses the user or the password"),
    "unknown user": (lambda at: f"redis://me:hunter2@127.0.0.1:{at['redis']}", "refuses the user or the password"),
    "no password": (lambda at: f"redis://127.0.0.1:{at['redis']}", "wants a password"),
    "database": (lambda at: f"redis://:right@127.0.0.1:{at['redis']}/99", "no database of this number"),
    "right": (lambda at: f"redis://noinfo:right@127.0.0.1:{at['redis']}", "may not use command LLEN"),
    "web server": (lambda at: f"redis://127.0.0.1:{at['web']}", "what answers there is no Redis|closes the connection"),
    "certificate": (
        lambda at: f"rediss://localhost:{at['tls']}",
        "its certificate is refused: self-signed certificate",
    ),
    "nobody": (lambda at: f"redis://127.0.0.1:{at['nobody']}", "not reachable: nothing listens there"),
    "host": (lambda at: f"redis://nowhere.invalid:{at['nobody']}", "not reachable: its host is not found"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_doctor_calls_it_what_it_is(places: Places, trouble: str) -> None:
    url, words = TROUBLES[trouble]
    findings = list(check_redis.redis(Settings(redis_url=url(places))))
    failed = "\n".join(finding.message for finding in findings if finding.verdict is Verdict.FAILED)

    with pytest.raises(AssertionError, match=words):
        raise AssertionError(failed)
    assert "hunter2" not in failed


@pytest.mark.parametrize("trouble", ["wrong password", "no password", "certificate", "nobody", "database"])
def test_a_caller_is_told_what_it_is(places: Places, trouble: str) -> None:
    url, words = TROUBLES[trouble]
    caller = Caller(Settings(redis_url=url(places)))
    with pytest.raises(RedisUnusable, match=words):
        caller.submit("lowtide.a", [InferenceRequest(model="a", uri="gs://b/1")])
    caller.close()


def test_a_wrong_password_is_told_at_once_by_each_door(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_REDIS_URL", f"redis://:hunter2@127.0.0.1:{places['redis']}")
    code = """
from lowtide.tasks import infer, infer_many
request = {"model": "a", "uri": "gs://b/1"}
for call in (infer.delay, lambda request: next(infer_many([request]))):
    try:
        call(request)
    except Exception as error:
        print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    said = run.stdout.splitlines()
    assert [line.partition(" →")[0] for line in said] == [
        "RedisUnusable Redis can't be used: it refuses the user or the password"
    ] * 2
    assert "hunter2" not in run.stdout + run.stderr

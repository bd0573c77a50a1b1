"""A Redis server, and bare workers: our consumer, and tasks without a model. Everything started is ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from lowtide.config import Settings, load_settings
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.app import celery_config
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from tests.ports import steady_port
from tests.waiting import until

PREFIX = "fleet:"
ROOT = Path(__file__).parents[2]


class Server(EmbeddedRedis):
    """A Redis server that comes back at its address, and a client of it."""

    def __init__(self, folder: Path, *, binary: str | None = None) -> None:
        super().__init__(folder, port=steady_port(), binary=binary)
        self.redis = connect(Settings(redis_url=self.url))

    def signal(self, signum: int) -> None:
        assert self.pid
        os.kill(self.pid, signum)

    def __exit__(self, *_: object) -> None:
        self.redis.close()
        super().__exit__()


class Fleet:
    """Workers of one Redis, and a stock publisher."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.redis = server.redis
        self.redis.config_resetstat()
        self.settings: Settings = load_settings(redis_url=server.url, prefix=PREFIX)
        self.keys = Keys.of(self.settings)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.publisher = Celery("publisher", set_as_current=False)
        self.publisher.conf.update({**celery_config(self.settings), "task_routes": ()})

    def worker(
        self, *, slot: str = "0", threads: int = 4, quiet_s: float = 0, wait: bool = True, **variables: str
    ) -> Any:
        """A worker process that is ready, unless nobody waits for it."""
        ready = self.redis.llen("ready")
        environment = {
            **os.environ,
            "LOWTIDE_REDIS_URL": self.server.url,
            "LOWTIDE_PREFIX": PREFIX,
            "LOWTIDE_THREADS": str(threads),
            "LOWTIDE_WORKER_SLOT": slot,
            "BARE_QUIET_S": str(quiet_s),
            **variables,
        }
        command = [sys.executable, "-W", "ignore", "-m", "tests.integration.bare_worker"]
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.workers.append(process)
        if not wait:
            return process
        until(lambda: self.redis.llen("ready") > ready or process.poll() is not None, what="worker")
        assert process.poll() is None, "the worker did not start"
        return process

    def send(self, task: str, *args: Any, queue: str = "lowtide.m", **options: Any) -> str:
        return str(self.publisher.send_task(task, args, queue=queue, **options).id)

    def let_go(self, count: int, key: str = "out") -> None:
        """So many tasks `hold` go on and end."""
        self.redis.rpush(f"go:{key}", *range(count))

    def out(self, key: str = "out") -> list[str]:
        return [value.decode() for value in self.redis.lrange(key, 0, -1)]

    def held(self) -> int:
        return int(self.redis.hlen(self.keys.holders))

    def losses(self) -> int:
        """Of tasks that are not done: an acknowledgement forgets its task's."""
        return sum(int(self.redis.get(key) or 0) for key in self.redis.keys(self.keys.loss("*")))

    def put_back(self) -> int:
        """How many messages went back to their lists, as lost or not, since the fleet began or Redis was started."""
        return int(self.redis.info("commandstats").get("cmdstat_incrby", {"calls": 0})["calls"])

    def nothing_held(self) -> bool:
        """Nothing is held and nothing is left over."""
        return not (self.held() or self.redis.keys(self.keys.held("*")))

    def close(self) -> None:
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)
        self.publisher.close()


@contextmanager
def fleet_on(server: Server) -> Iterator[Fleet]:
    """A fleet on an emptied server; its processes end with the block."""
    server.redis.flushall()
    fleet = Fleet(server)
    try:
        yield fleet
    finally:
        fleet.close()

"""A fleet of real processes, started by the documented commands and environment variables only."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from redis import Redis, RedisError

from lowtide.local.process import ChildProcess
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from tests.waiting import until

READY_S = 120.0
"""For what takes seconds, a worker's imports included: ends a hang, and measures nothing."""
LOWTIDE = (sys.executable, "-m", "lowtide.cli")


class Fleet:
    """Processes by name. `env` is what an operator would export."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env = dict(env)
        self.project = env["LOWTIDE_PROJECT"]
        self.folder = folder
        self._processes: dict[str, ChildProcess] = {}
        self._redis = Redis.from_url(env["LOWTIDE_REDIS_URL"])
        self._keys = Keys(env.get("LOWTIDE_PREFIX", ""))

    def start(
        self, name: str, *arguments: str, command: Sequence[str] = LOWTIDE, restart: bool = False, **env: str
    ) -> None:
        process = ChildProcess(
            name,
            [*command, *arguments],
            env={**self.env, **env},
            log_path=self.folder / f"{name}.log",
            restart=restart,
        )
        self._processes[name] = process
        process.start()

    def wait_ready(self, *, workers: int = 0, bridges: int = 0) -> None:
        def signed_in() -> bool:
            try:
                return (
                    len(live(self._redis, self._keys, "worker")) >= workers
                    and len(live(self._redis, self._keys, "bridge")) >= bridges
                )
            except RedisError:
                return False

        try:
            until(signed_in, within_s=READY_S, what=f"{workers} workers and {bridges} bridges")
        except AssertionError as error:
            logs = "\n".join(f"--- {name}\n{process.tail(40)}" for name, process in self._processes.items())
            raise AssertionError(f"the fleet did not become ready\n{logs}") from error

    def process(self, name: str) -> ChildProcess:
        return self._processes[name]

    def signal(self, name: str, signum: int) -> None:
        pid = self._processes[name].pid
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signum)

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)
        self._processes.pop(name).stop()

    def log(self, name: str) -> str:
        return self._processes[name].tail(100_000)

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values() if process.pid is not None]

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()
        self._processes.clear()
        self._redis.close()

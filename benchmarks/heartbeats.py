"""What a heartbeat costs Redis, and what a plain command would: one by one, and many together.

`python -m benchmarks.heartbeats` starts Redis, with its append-only file, on this machine, and prints milliseconds of
its CPU a second, beside what it takes when nobody asks. It takes two minutes.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from redis import Redis

from benchmarks.liveness import STATUS, cpu_s
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks import held
from lowtide.tasks.redis.keys import PROTOCOL, Keys
from lowtide.tasks.redis.registry import Register
from lowtide.tasks.redis.scripts import lua

PER_S = 200
WORKERS = 100
"""Each has a connection of its own."""

Command = tuple[object, ...]


class Workers:
    """What each of them sends at a time is `commands`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._connections = [redis.connection_pool.get_connection() for _ in range(WORKERS)]

    def cost_ms(self, commands: Sequence[Sequence[Command]], *, together: int, seconds: float) -> float:
        """Of a second: of Redis' CPU, while PER_S workers a second send theirs, so many at the same moment."""
        before_s, began_s = cpu_s(self._redis), time.monotonic()
        for turn in range(int(seconds * PER_S) // together):
            time.sleep(max(0.0, began_s + turn * together / PER_S - time.monotonic()))
            self._send(commands, [(turn * together + number) % WORKERS for number in range(together)])
        return 1e3 * (cpu_s(self._redis) - before_s) / (time.monotonic() - began_s)

    def _send(self, commands: Sequence[Sequence[Command]], workers: Sequence[int]) -> None:
        for worker in workers:
            connection: Any = self._connections[worker]
            connection.send_packed_command(connection.pack_commands(commands[worker]))
        for worker in workers:
            for _ in commands[worker]:
                self._connections[worker].read_response()


def commands_of(redis: Redis) -> dict[str, list[list[Command]]]:
    """What is compared → the commands of each worker, which all are registered."""
    keys = Keys("")
    register = Register.of(keys, "worker")
    script = redis.script_load(lua(held.__name__, "heartbeat"))
    named = [*register.both, keys.protocol, keys.suspects]
    names, status = [f"worker-{number}" for number in range(WORKERS)], json.dumps(STATUS)
    for name in names:
        redis.evalsha(script, len(named), *named, name, status, "1", PROTOCOL, "0")
    beats, statuses = register.both
    return {
        "`PING`": [[("PING",)] for _ in names],
        "`ZADD` and `HSET`": [[("ZADD", beats, time.time(), name), ("HSET", statuses, name, status)] for name in names],
        "the heartbeat's script": [
            [("EVALSHA", script, len(named), *named, name, status, "0", PROTOCOL, "0")] for name in names
        ],
    }


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="Of each measurement.")
def main(seconds: float) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        redis = Redis.from_url(server.url, max_connections=WORKERS + 1)
        workers, compared = Workers(redis), commands_of(redis)
        before_s = cpu_s(redis)
        time.sleep(seconds)
        idle_ms = 1e3 * (cpu_s(redis) - before_s) / seconds
        print(f"beside the {idle_ms:.0f} when nobody asks:\n")
        print(f"| {PER_S} a second | one by one | {WORKERS} together |\n|---|---|---|")
        for what, commands in compared.items():
            one_ms, many_ms = (
                workers.cost_ms(commands, together=together, seconds=seconds) - idle_ms for together in (1, WORKERS)
            )
            print(f"| {what} | {one_ms:.1f} | {many_ms:.1f} |", flush=True)


if __name__ == "__main__":
    main()

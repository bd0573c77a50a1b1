"""What it costs Redis that workers wait, and how soon they are woken.

`python -m benchmarks.waking` starts Redis, which keeps its data (AOF), and workers on this machine, with
models that do no work. `--workers 2` for fewer than 32 at once, which take a minute to start on two cores.
"""

import base64
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from celery import Celery
from redis import Redis

from lowtide.config import load_settings
from lowtide.local.redis import EmbeddedRedis
from lowtide.local.stack import Stack
from lowtide.tasks import infer, infer_many
from lowtide.tasks.app import celery_config, configure
from lowtide.tasks.client import caller
from lowtide.tasks.infer import INFER
from lowtide.tasks.queues import caller_queue
from tests.connected import Connected

MODEL = "noop0"
IDLE_S = 20.0
PAYLOAD_BYTES = 150_000
PAUSE_S = 0.25
PUSHES = 60
PATIENCE_S = 60.0


@contextmanager
def fleet(redis: Redis, *, workers: int, models: int = 1) -> Iterator[Stack]:
    """Workers without a bridge, idle for a while, on a Redis that was emptied."""
    redis.flushall()
    url = "redis://{host}:{port}/0".format_map(redis.get_connection_kwargs())
    names = ",".join(f"noop{number}=benchmarks.noop:Noop" for number in range(models))
    settings = load_settings(redis_url=url, models=names, device="cpu", project="waking", subscription="")
    with tempfile.TemporaryDirectory() as folder, Stack(settings, folder=Path(folder), workers=workers) as stack:
        stack.wait_ready(timeout_s=600)
        configure(stack.settings)
        time.sleep(IDLE_S / 2)
        yield stack


class Counts:
    """How much Redis did while a block ran: its commands (those of scripts, too), bytes got and sent, takes."""

    def __init__(self, redis: Redis, block: Callable[[], object]) -> None:
        before, began_s = self._of(redis), time.monotonic()
        block()
        self.took_s = time.monotonic() - began_s
        found = (now - then for now, then in zip(self._of(redis), before, strict=True))
        self.commands, self.got, self.sent, self.takes = found

    @staticmethod
    def _of(redis: Redis) -> tuple[int, int, int, int]:
        stats: dict[str, Any] = redis.info("stats")
        registered = redis.info("commandstats")["cmdstat_zscore"]["calls"]  # each take asks, and each heartbeat
        got, sent = stats["total_net_input_bytes"], stats["total_net_output_bytes"]
        return stats["total_commands_processed"], got, sent, registered


def idle(redis: Redis, models: int) -> str:
    """Of a worker that doesn't lead: two cost so much more than the one that does."""
    commands_per_s, most = [], 0
    for workers in (1, 2):
        with fleet(redis, workers=workers, models=models) as stack:
            commands_per_s.append(Counts(redis, lambda: time.sleep(IDLE_S)).commands / IDLE_S)
            most = max(most, *Connected(stack.settings.redis_url, stack.pids).count().values())
    leads, both = commands_per_s
    return f"{both - leads:.1f} commands a second (the one that leads: {leads:.1f}), {most} connections at most"


def stream(redis: Redis, workers: int) -> str:
    """A message every quarter of a second. Whoever is woken takes twice: what there is, and then nothing."""
    request = {"model": MODEL, "data": base64.b64encode(os.urandom(PAYLOAD_BYTES)).decode()}

    def push() -> None:
        for _ in range(PUSHES):
            assert [answer.outputs for answer in infer_many([request])] == [[PAYLOAD_BYTES]]
            time.sleep(PAUSE_S)

    with fleet(redis, workers=workers):
        rest, busy = Counts(redis, lambda: time.sleep(IDLE_S)), Counts(redis, push)
    got, sent, takes = (
        (more - less / rest.took_s * busy.took_s) / PUSHES
        for more, less in ((busy.got, rest.got), (busy.sent, rest.sent), (busy.takes, rest.takes))
    )
    bytes_a_byte = f"{sent / PAYLOAD_BYTES:.2f} bytes sent a byte, {got / PAYLOAD_BYTES:.2f} got"
    return f"{bytes_a_byte}, {takes:.1f} takes a message"


def lone(redis: Redis) -> dict[str, str]:
    """From the call to the result, for each kind of caller: one after the other, and each after a pause, in which the
    machine falls asleep. A PING beside them says how much of that is its waking up, at each step of the way.
    """
    request = {"model": MODEL, "data": "eA=="}
    with fleet(redis, workers=1) as stack:
        stock = Celery("stock", set_as_current=False)
        stock.conf.update({**celery_config(stack.settings), "task_routes": ()})
        queue = caller_queue(MODEL)
        calls: dict[str, Callable[[], object]] = {
            "lone infer.delay": lambda: infer.delay(request).get(timeout=PATIENCE_S),
            "lone send_task": lambda: stock.send_task(INFER, [request], queue=queue).get(timeout=PATIENCE_S),
            "PING": redis.ping,
        }
        return {name: f"{took(call)}; after a pause {took(call, pause_s=PAUSE_S / 2)}" for name, call in calls.items()}


def took(call: Callable[[], object], *, pause_s: float = 0.0) -> str:
    """Milliseconds."""
    times_ms = []
    for _ in range(2 * PUSHES):
        began_s = time.perf_counter()
        call()
        times_ms.append(1e3 * (time.perf_counter() - began_s))
        time.sleep(pause_s)
    return f"{statistics.median(times_ms):.1f} ms (p50), {statistics.quantiles(times_ms, n=20)[-1]:.1f} ms (p95)"


def rows(workers: int = 32) -> Iterator[tuple[str, str]]:
    """What was measured, and what came out. With so many workers at once, at most."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        redis, os.environ["LOWTIDE_REDIS_URL"] = Redis.from_url(server.url), server.url
        yield from lone(redis).items()
        for models in (1, 10):
            yield f"idle worker, models: {models}", idle(redis, models)
        for waiting in (2, 8, 32):
            if waiting <= workers:
                yield f"150 kB messages, workers: {waiting}", stream(redis, waiting)
        caller.close()


@click.command()
@click.option("--workers", default=32, show_default=True, help="At once, at most.")
def main(workers: int) -> None:
    """Print a table."""
    for what, figure in rows(workers):
        print(f"{what:32}{figure}", flush=True)


if __name__ == "__main__":
    main()

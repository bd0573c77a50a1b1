"""What it costs Redis that a fleet of real size lives, and that a zone of it is lost.

`python -m benchmarks.liveness` starts Redis (with its append-only file), Pub/Sub and two bridges on this
machine. The workers are heartbeats, each with a thread and a connection of its own, in two processes, the zones; this
process takes 64 tasks in the name of each. The sweeper is in the zone that is lost. Figures are CPU time of Redis by
`INFO`; before them stands what Redis does when nobody asks, and what a ping costs it, because machines differ.
"""

import json
import multiprocessing
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from redis import Redis

from lowtide.autoscaling.signal.snapshot import Camera
from lowtide.config import Settings, load_settings
from lowtide.local.process import ChildProcess
from lowtide.local.redis import EmbeddedRedis
from lowtide.local.stack import Stack
from lowtide.tasks.held.heartbeat import BEAT_S, Heartbeat
from lowtide.tasks.held.moves import Moves
from lowtide.tasks.held.room import Budget, Turns
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.tasks.queues import topic_queue
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import alive
from lowtide.tasks.waking.queue_watch import QueueWatch
from tests.fleet import LOWTIDE

MODEL = "digits"
TASKS = 64
SMALL_BYTES = 1024
LARGE_BYTES = 1024 * 1024 // TASKS
"""What is lost in the lost zone: 1 MiB a worker."""
MEASURE_S = 20.0
LOOK_S = 2.0
PATIENCE_S = 300.0
SLOW_US = 5_000

STATUS = {
    "models": [MODEL],
    "devices": ["cuda:0"],
    "rates": {MODEL: 0.00123456789},
    "busy": True,
    "draining": False,
    "deaf_to": [],
    "in_process": 128,
    "running": {MODEL: 64},
    "batches": {"cuda:0": 4567},
    "retrying": None,
    "started_at": "2026-01-01T00:00:00+00:00",
}


class Zone:
    """Workers that beat until their process is killed."""

    def __init__(self, settings: Settings, name: str, count: int, *, sweeps: bool) -> None:
        self.workers = [f"{name}-{number}" for number in range(count)]
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=live, args=(settings, self.workers, sweeps), daemon=True)
        self._process.start()

    def lose(self) -> None:
        """Now. Idempotent."""
        self._process.kill()
        self._process.join()


def live(settings: Settings, workers: Sequence[str], sweeps: bool) -> None:
    """Beat for each of these. Their status is another each time, as of who works."""
    keys, began_s = Keys.of(settings), time.monotonic()

    def status(worker: str) -> Mapping[str, Any]:
        done = {"ok": int(100 * (time.monotonic() - began_s)), "failed": 12}
        return {**STATUS, "name": f"{worker}:0:17", "done": done}

    if sweeps:
        watch = QueueWatch(connect(settings), keys, [MODEL])
        Sweeper(connect(settings), keys, queue_watch=watch).start()
    for worker in workers:
        redis = connect(settings, most=1)
        Heartbeat(redis, keys, kind="worker", name=worker, status=partial(status, worker), models=[MODEL]).start()
    threading.Event().wait()


def take(redis: Redis, keys: Keys, workers: Sequence[str], size_bytes: int) -> None:
    """Let each of these hold 64 tasks of that size."""
    queue, body, moves = topic_queue(MODEL), "x" * size_bytes, Moves(redis, keys)
    for worker in workers:
        redis.lpush(keys.queue(queue), *(message(body) for _ in range(TASKS)))
        budget = Budget(messages=TASKS, work_s=1e9)
        taken = moves.take(worker, queues=[queue], seconds=[0.0], budget=budget, turns=Turns(0.1))
        assert taken is not None
        assert len(taken.messages) == TASKS


def message(body: str) -> str:
    """As a bridge writes them."""
    headers = {"id": f"{'b' * 12}.{uuid.uuid4().hex}", "lowtide-n": 64, "lowtide-at": 1_780_000_000.123, "eta": None}
    properties = {"delivery_tag": str(uuid.uuid4()), "delivery_info": {"exchange": "", "routing_key": MODEL}}
    return json.dumps({"body": body, "headers": headers, "properties": properties})


def cpu_s(redis: Redis) -> float:
    """Of Redis, since it began."""
    info = redis.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a second: milliseconds of Redis' CPU, and kilobytes that it sends."""

    cpu_ms: float
    sent_kb: float

    def __str__(self) -> str:
        return f"{self.cpu_ms:.1f} ms/s, {self.sent_kb:.1f} kB/s sent"


def cost(redis: Redis, seconds: float = MEASURE_S) -> Cost:
    """For so long."""
    began_s, cpu, sent = time.monotonic(), cpu_s(redis), redis.info("stats")["total_net_output_bytes"]
    time.sleep(seconds)
    took_s = time.monotonic() - began_s
    sent = redis.info("stats")["total_net_output_bytes"] - sent
    return Cost(cpu_ms=(cpu_s(redis) - cpu) / took_s * 1e3, sent_kb=sent / took_s / 1e3)


def ping_us(redis: Redis) -> float:
    """What one of many costs Redis, that come one after the other."""
    cpu = cpu_s(redis)
    for _ in range(20_000):
        redis.ping()
    return (cpu_s(redis) - cpu) / 20_000 * 1e6


@contextmanager
def looking(settings: Settings) -> Iterator[None]:
    """As `lowtide status --watch`."""
    camera, stopped = Camera(connect(settings), settings), threading.Event()

    def look() -> None:
        while not stopped.wait(LOOK_S):
            camera.take()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def bridges(settings: Settings, folder: Path) -> Iterator[None]:
    """Two, and their Pub/Sub."""
    with Stack(settings, folder=folder, workers=0) as stack:
        second = ChildProcess("bridge-2", [*LOWTIDE, "bridge"], env=stack.environment, log_path=folder / "bridge-2.log")
        second.start()
        try:
            redis, keys = connect(settings), Keys.of(settings)
            until(lambda: alive(redis, keys, "bridge") == 2)
            yield
        finally:
            second.stop()


def until(true: Callable[[], object]) -> float:
    """Seconds until it is so."""
    began_s = time.monotonic()
    while not true():
        assert time.monotonic() - began_s < PATIENCE_S
        time.sleep(0.02)
    return time.monotonic() - began_s


@contextmanager
def pinging(url: str) -> Iterator[list[float]]:
    """Again and again, by another client; how long each had to wait, seconds."""
    waited_s: list[float] = []
    stopped, client = threading.Event(), Redis.from_url(url)

    def ping() -> None:
        while not stopped.wait(0.001):
            began_s = time.monotonic()
            client.ping()
            waited_s.append(time.monotonic() - began_s)

    thread = threading.Thread(target=ping, daemon=True)
    thread.start()
    try:
        yield waited_s
    finally:
        stopped.set()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Of a zone: until all that it held was given back; the longest that Redis was busy meanwhile, as its slow log and
    as another client's ping has it.
    """

    tasks: int
    took_s: float
    longest_call_ms: float
    longest_ping_ms: float

    def __str__(self) -> str:
        busy = f"the longest call {self.longest_call_ms:.0f} ms, the longest ping {self.longest_ping_ms:.0f} ms"
        return f"{self.tasks:,} tasks given back within {self.took_s:.0f} s, {busy}"


def lose(zone: Zone, redis: Redis, keys: Keys, url: str) -> Loss:
    """It falls silent, all at once, with 1 MiB held by each of its workers; a bridge gives that back."""
    take(redis, keys, zone.workers, LARGE_BYTES)
    redis.config_set("slowlog-log-slower-than", SLOW_US)
    redis.slowlog_reset()
    held = redis.hlen(keys.holders)
    tasks = len(zone.workers) * 2 * TASKS  # those that it held before, too
    with pinging(url) as waited_s:
        zone.lose()
        took_s = until(lambda: redis.hlen(keys.holders) <= held - tasks)
    longest_us = max((entry["duration"] for entry in redis.slowlog_get(1000)), default=0)
    return Loss(tasks=tasks, took_s=took_s, longest_call_ms=longest_us / 1e3, longest_ping_ms=max(waited_s) * 1e3)


def rows(count: int = 1000, lost: int = 300) -> Iterator[tuple[str, str]]:
    """What was measured, and what came out. With so many workers, and so many in the zone that is lost."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder, "redis")) as server:
        settings = load_settings(redis_url=server.url, models=MODEL, device="cpu", project="liveness")
        redis, keys = connect(settings), Keys.of(settings)
        yield "Redis alone", f"{cost(redis)}; {ping_us(redis):.0f} µs a ping"
        zones = Zone(settings, "lost", lost, sweeps=True), Zone(settings, "kept", count - lost, sweeps=False)
        try:
            until(lambda: alive(redis, keys, "worker") == count)
            for zone in zones:
                take(redis, keys, zone.workers, SMALL_BYTES)
            with bridges(settings, Path(folder, "stack")):
                time.sleep(BEAT_S)
                yield f"{count:,} workers, sweeper, two bridges", str(cost(redis))
                with looking(settings):
                    yield "… and `lowtide status --watch`", str(cost(redis))
                yield f"{lost} of them lost, and the sweeper", str(lose(zones[0], redis, keys, server.url))
        finally:
            for zone in zones:
                zone.lose()


@click.command()
@click.option("--workers", "count", default=1000, show_default=True)
@click.option("--lost", default=300, show_default=True, help="Workers in the zone that is lost.")
def main(count: int, lost: int) -> None:
    """Print a table."""
    for what, figure in rows(count, lost):
        print(f"{what:40}{figure}", flush=True)


if __name__ == "__main__":
    main()

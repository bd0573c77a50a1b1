"""What a fleet of real size costs Redis: who lives, who holds what, and a zone that is lost.

`PYTHONPATH=. python benchmarks/scale.py` starts Redis (with its append-only file), Pub/Sub and two bridges on this
machine. The workers are written into Redis by this process, as workers write: registered, with 64 tasks held by each,
and a heartbeat every 5 s. Figures are CPU time of Redis by `INFO`, and beside them what as many seconds of a client do
that sends one PING after the other, because machines differ.
"""

import json
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from redis import Redis

from lowtide.autoscaling.snapshot import Camera
from lowtide.config import load_settings
from lowtide.local.process import ChildProcess
from lowtide.local.stack import Stack
from lowtide.tasks.heartbeat import BEAT_S, Heartbeat
from lowtide.tasks.keys import Keys
from lowtide.tasks.queues import topic_queue
from lowtide.tasks.registry import alive
from lowtide.tasks.store import connect
from lowtide.tasks.transport import Sweeper
from lowtide.tasks.transport.moves import Moves
from lowtide.tasks.transport.room import Budget, Turns
from tests.fleet import LOWTIDE

MODEL = "digits"
TASKS = 64
SMALL_BYTES = 1024
LARGE_BYTES = 1024 * 1024 // TASKS
"""What is lost in the lost zone: 1 MiB a worker."""
MEASURE_S = 20.0
LOOK_S = 2.0
PATIENCE_S = 120.0
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
    "done": {"ok": 123_456, "failed": 12},
    "batches": {"cuda:0": 4567},
    "retrying": None,
    "started_at": "2026-01-01T00:00:00+00:00",
}


class Workers:
    """So many of them, who live as long as they are in `living`."""

    def __init__(self, redis: Redis, keys: Keys, count: int) -> None:
        self.living = [
            Heartbeat(redis, keys, kind="worker", status=dict(STATUS, name=f"vm-{number}:0:17").copy, models=[MODEL])
            for number in range(count)
        ]
        self._redis = redis
        self._keys = keys
        self._moves = Moves(redis, keys)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="workers", daemon=True)
        for each in self.living:
            each.beat()

    def take(self, workers: Sequence[Heartbeat], size_bytes: int) -> None:
        """Let each of these hold 64 tasks of that size."""
        queue, body = topic_queue(MODEL), "x" * size_bytes
        for worker in workers:
            self._redis.lpush(self._keys.queue(queue), *(message(body) for _ in range(TASKS)))
            budget = Budget(messages=TASKS, work_s=1e9)
            taken = self._moves.take(
                str(worker.incarnation), queues=[queue], seconds=[0.0], budget=budget, turns=Turns(0.1)
            )
            assert taken is not None
            assert len(taken) == TASKS

    @contextmanager
    def alive(self) -> Iterator[None]:
        """They beat while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()

    def _beat(self) -> None:
        """Each every 5 s, evenly."""
        number, next_s = 0, time.monotonic()
        while not self._stopped.is_set():
            living = self.living
            living[number % len(living)].beat()
            number, next_s = number + 1, next_s + BEAT_S / len(living)
            time.sleep(max(0.0, next_s - time.monotonic()))


def message(body: str) -> str:
    """As a bridge writes them."""
    headers = {"id": f"{'b' * 12}.{uuid.uuid4().hex}", "lowtide-n": 64, "lowtide-at": 1_780_000_000.123, "eta": None}
    properties = {"delivery_tag": str(uuid.uuid4()), "delivery_info": {"exchange": "", "routing_key": MODEL}}
    return json.dumps({"body": body, "headers": headers, "properties": properties})


def cpu_s(redis: Redis) -> float:
    """Of Redis, since it began."""
    info = redis.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def cost(redis: Redis, seconds: float) -> tuple[float, float]:
    """Milliseconds of Redis' CPU and kilobytes that it sends, in a second."""
    began_s, cpu, sent = time.monotonic(), cpu_s(redis), redis.info("stats")["total_net_output_bytes"]
    time.sleep(seconds)
    took_s = time.monotonic() - began_s
    sent = redis.info("stats")["total_net_output_bytes"] - sent
    return (cpu_s(redis) - cpu) / took_s * 1e3, sent / took_s / 1e3


def pings(redis: Redis) -> float:
    """Pings of one client that cost Redis a millisecond."""
    cpu = cpu_s(redis)
    for _ in range(20_000):
        redis.ping()
    return 20_000 / ((cpu_s(redis) - cpu) * 1e3)


@contextmanager
def looking(stack: Stack) -> Iterator[None]:
    """As `lowtide status --watch`."""
    camera, stopped = Camera(connect(stack.settings), stack.settings), threading.Event()

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
def bridge(stack: Stack, folder: Path) -> Iterator[None]:
    """One more."""
    process = ChildProcess("bridge-2", [*LOWTIDE, "bridge"], env=stack.environment, log_path=folder / "bridge-2.log")
    process.start()
    try:
        redis, keys = connect(stack.settings), Keys.of(stack.settings)
        until(lambda: alive(redis, keys, "bridge") == 2)
        yield
    finally:
        process.stop()


def until(true: Callable[[], object]) -> float:
    """Seconds until it is so."""
    began_s = time.monotonic()
    while not true():
        assert time.monotonic() - began_s < PATIENCE_S
        time.sleep(0.02)
    return time.monotonic() - began_s


def register(redis: Redis, stack: Stack) -> None:
    """What it costs that they live and hold what they hold."""
    each = pings(redis)
    rows = {"heartbeats, sweeper, two bridges": cost(redis, MEASURE_S)}
    with looking(stack):
        rows["  and `lowtide status --watch`"] = cost(redis, MEASURE_S)
    for name, (cpu_ms, sent_kb) in rows.items():
        print(f"{name:44}{cpu_ms:8.1f} ms/s = {cpu_ms * each:6.0f} pings/s{sent_kb:10.1f} kB/s", flush=True)


def zone_loss(redis: Redis, keys: Keys, workers: Workers, lost: int, leader: Sweeper) -> None:
    """So many fall silent at once, and the sweeper among them; until everything is given back by a bridge's."""
    redis.delete(keys.sweeper)
    assert leader._leadership.renew()
    leader.start()
    gone = workers.living[:lost]
    workers.take(gone, LARGE_BYTES)
    redis.config_set("slowlog-log-slower-than", SLOW_US)
    redis.slowlog_reset()
    waited: list[float] = []
    stopped = threading.Event()

    def probe() -> None:
        client = redis.from_url(f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0")
        while not stopped.wait(0.001):
            began_s = time.monotonic()
            client.ping()
            waited.append(time.monotonic() - began_s)

    probing = threading.Thread(target=probe, daemon=True)
    probing.start()
    held = redis.hlen(keys.holders)
    leader._stopped.set()  # it keeps its lock, as one that vanished
    workers.living = workers.living[lost:]
    took_s = until(lambda: redis.hlen(keys.holders) <= held - lost * TASKS)
    stopped.set()
    probing.join()
    slow = max((entry["duration"] for entry in redis.slowlog_get(1000)), default=0) / 1e3
    print(
        f"{f'{lost} workers fall silent, 1 MiB held by each':44}{took_s:8.1f} s until {lost * TASKS:,} tasks were given"
        f" back; the longest call {slow:.0f} ms, the longest wait of a ping {max(waited) * 1e3:.0f} ms",
        flush=True,
    )


@click.command()
@click.option("--workers", "count", default=1000, show_default=True)
@click.option("--lost", default=300, show_default=True, help="Workers in the zone that is lost.")
def main(count: int, lost: int) -> None:
    """Print a row for each figure."""
    settings = load_settings(models=MODEL, device="cpu", project="scale")
    with tempfile.TemporaryDirectory() as folder, Stack(settings, folder=Path(folder), workers=0) as stack:
        redis, keys = connect(stack.settings), Keys.of(stack.settings)
        with bridge(stack, Path(folder)):
            print(f"{f'{count} workers that hold {TASKS} tasks each':44}", flush=True)
            workers = Workers(connect(stack.settings), keys, count)
            workers.take(workers.living, SMALL_BYTES)
            with workers.alive():
                register(redis, stack)
                zone_loss(redis, keys, workers, lost, Sweeper(connect(stack.settings), keys))


if __name__ == "__main__":
    main()

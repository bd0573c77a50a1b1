"""A bridge before a million messages: how much memory it takes, without a worker and while workers drain them.

`python -m benchmarks.backlog` starts its own Redis and Pub/Sub (PUBSUB_EMULATOR_HOST, when set, is used instead),
publishes, starts a bridge and looks at its resident memory; then it starts workers whose model does nothing. Exit code
1 when the bridge took more than `--limit-mb`, or more at the end than halfway, by a tenth.
"""

import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import grpc

from lowtide.bridge.pubsub.client import Pubsub, PubsubError, message_of
from lowtide.bridge.pubsub.create import create_missing
from lowtide.config import EMULATOR, Settings, load_settings
from lowtide.local.process import ChildProcess
from lowtide.local.redis import EmbeddedRedis
from tests.services import local_pubsub

AT_ONCE = 1000
LOOK_S = 1.0
PLOT_COLUMNS = 60
STEADY = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was seen: seconds since the bridge's start, its resident memory, and results so far."""

    at_s: float
    rss_mb: float
    results: int


def rss_mb(pid: int) -> float:
    """Resident memory, from /proc."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


class Results:
    """Counts what comes out, and acknowledges it, so that it is not Pub/Sub whose memory grows."""

    def __init__(self, settings: Settings) -> None:
        self.count = 0
        self._subscription = settings.subscription_path(settings.results_topic)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        pubsub = Pubsub()
        while not self._stopped.is_set():
            try:
                taken = self._take(pubsub)
            except (grpc.RpcError, PubsubError):  # a machine that is busy may answer late: what was taken comes again
                taken = 0
            self.count += taken
        pubsub.close()

    def _take(self, pubsub: Pubsub) -> int:
        received = pubsub.pull(self._subscription, AT_ONCE, timeout_s=LOOK_S).result().received_messages
        pubsub.acknowledge(self._subscription, [one.ack_id for one in received])
        return len(received)


def publish(settings: Settings, count: int, size_bytes: int) -> None:
    """Fill the topic."""
    pubsub, topic = Pubsub(), settings.topic_path(settings.topic)
    message = message_of(bytes(size_bytes), {})
    with click.progressbar(length=count, label="publish", file=sys.stderr) as bar:
        for start in range(0, count, AT_ONCE):
            part = min(AT_ONCE, count - start)
            pubsub.publish(topic, [message] * part)
            bar.update(part)
    pubsub.close()


def watch(bridge: ChildProcess, results: Results, *, began_s: float, for_s: float, until: int) -> Iterator[Sample]:
    """Look every second, for so long, or until there are so many results."""
    end_s, restarts = time.monotonic() + for_s, bridge.restarts
    while time.monotonic() < end_s and results.count < until:
        if bridge.pid is None or bridge.restarts > restarts:
            raise click.ClickException(f"the bridge ended:\n{bridge.tail()}")
        yield Sample(at_s=time.monotonic() - began_s, rss_mb=rss_mb(bridge.pid), results=results.count)
        time.sleep(LOOK_S)


@contextmanager
def services(folder: Path) -> Iterator[Settings]:
    """Redis and Pub/Sub, and the settings with which to reach them."""
    with EmbeddedRedis(folder / "redis") as redis, ExitStack() as stack:
        if EMULATOR not in os.environ:
            os.environ[EMULATOR] = stack.enter_context(local_pubsub(folder / "pubsub")).host
        yield load_settings(
            redis_url=redis.url,
            project=f"backlog-{uuid.uuid4().hex[:8]}",
            models="noop=benchmarks.noop:Noop",
            default_model="noop",
            metadata_url="none",
        )


def plot(samples: Sequence[Sample], *, limit_mb: float) -> str:
    """Memory over time, one line a step, as wide as the limit."""
    step = max(1, len(samples) // 20)
    return "\n".join(
        f"{sample.at_s:6.0f} s {sample.rss_mb:6.1f} MB {sample.results:>9,} "
        f"{'█' * round(sample.rss_mb / limit_mb * PLOT_COLUMNS)}"
        for sample in itertools.islice(samples, 0, None, step)
    )


def row(phase: str, samples: Sequence[Sample]) -> str:
    memory = [sample.rss_mb for sample in samples]
    took_s = samples[-1].at_s - samples[0].at_s
    rate = (samples[-1].results - samples[0].results) / max(took_s, LOOK_S)
    figures = f"{min(memory):8.1f} {statistics.median(memory):8.1f} {max(memory):8.1f}"
    return f"{phase:<22} {took_s:8.0f} {figures} {rate:10,.0f}"


def is_steady(samples: Sequence[Sample]) -> bool:
    """Whether the last quarter is no larger than the second, by a tenth."""
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    return max(one.rss_mb for one in last) <= STEADY * max(one.rss_mb for one in second or samples)


@click.command()
@click.option("--messages", default=1_000_000, show_default=True, help="How many wait.")
@click.option("--size-bytes", default=100, show_default=True, help="Data of each.")
@click.option("--idle-s", default=30.0, show_default=True, help="Time without a worker.")
@click.option("--drain-s", default=120.0, show_default=True, help="Time with workers, at most.")
@click.option("--workers", default=1, show_default=True)
@click.option("--limit-mb", default=200.0, show_default=True, help="What the bridge may take.")
def main(messages: int, size_bytes: int, idle_s: float, drain_s: float, workers: int, limit_mb: float) -> None:
    """Measure, print a table and a plot."""
    with tempfile.TemporaryDirectory(prefix="lowtide-backlog-") as name, services(Path(name)) as settings:
        folder = Path(name)
        create_missing(settings)
        publish(settings, messages, size_bytes)
        results = Results(settings)
        env = settings.environment()
        names = ["bridge", *(f"worker-{number}" for number in range(workers))]
        bridge, *crew = (
            ChildProcess(
                name, [sys.executable, "-m", "lowtide.cli", name.split("-")[0]], env=env, log_path=folder / name
            )
            for name in names
        )
        try:
            began_s = time.monotonic()
            bridge.start()
            time.sleep(2 * LOOK_S)
            idle = list(watch(bridge, results, began_s=began_s, for_s=idle_s, until=messages))
            for worker in crew:
                worker.start()
            drain = list(watch(bridge, results, began_s=began_s, for_s=drain_s, until=messages))
        finally:
            for process in (bridge, *crew):
                process.stop()
            results.stop()
    print(f"{messages:,} messages of {size_bytes} bytes; the bridge's resident memory, MB")
    print(f"{'':<22} {'seconds':>8} {'least':>8} {'median':>8} {'most':>8} {'results/s':>10}")
    print(row("without a worker", idle))
    print(row(f"{workers} worker{'s' if workers > 1 else ''}", drain))
    print(plot([*idle, *drain], limit_mb=limit_mb))
    most_mb = max(sample.rss_mb for sample in [*idle, *drain])
    if most_mb > limit_mb or not is_steady(idle) or not is_steady(drain):
        sys.exit(f"not bounded: {most_mb:.1f} MB at most, {drain[-1].rss_mb:.1f} MB at the end")


if __name__ == "__main__":
    main()

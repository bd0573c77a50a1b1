"""Connections to Redis, by process: idle, and while and after many threads call.

`python -m benchmarks.connections` starts Redis, Pub/Sub, a bridge and a worker on this machine, with a
model that does no work, and counts by `CLIENT LIST` and `/proc`, on Linux. The caller is this process. A row says "the
most at once → afterwards".
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from google.cloud import pubsub_v1

from lowtide.config import load_settings
from lowtide.local.stack import Stack
from lowtide.tasks import infer, infer_many
from lowtide.tasks.app import configure
from lowtide.tasks.client import caller
from tests.connected import Connected

PATIENCE_S = 300.0
IDLE_S = 12.0
REQUEST = {"model": "noop", "data": "eA=="}


def call(threads: int, requests: int) -> None:
    """`infer.delay(…).get()` from so many threads."""

    def one(_: int) -> None:
        assert infer.delay(REQUEST).get(timeout=PATIENCE_S) == [1.0]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(requests)))


def call_many(threads: int, requests: int) -> None:
    """`infer_many` from so many threads."""

    def some(_: int) -> None:
        assert all(answer.outputs == [1.0] for answer in infer_many([REQUEST] * (requests // threads)))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(threads)))


def publish(project: str, requests: int) -> None:
    """By topic, until every result is there."""
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    mine = subscriber.subscription_path(project, "connections")
    subscriber.create_subscription(name=mine, topic=publisher.topic_path(project, "lowtide-results"))
    answered, done = set[str](), threading.Event()

    def note(message: pubsub_v1.subscriber.message.Message) -> None:
        answered.add(message.attributes["message_id"])
        message.ack()
        if len(answered) == requests:
            done.set()

    pull = subscriber.subscribe(mine, callback=note)
    topic = publisher.topic_path(project, "lowtide-requests")
    for _ in range(requests):
        publisher.publish(topic, b"x", model="noop", lowtide_content="raw")
    assert done.wait(PATIENCE_S)
    pull.cancel()
    pull.result()
    subscriber.close()
    publisher.stop()


def rows(requests: int = 10_000, threads: int = 200) -> Iterator[tuple[str, str]]:
    """What was done, and how many connections each process had. So many threads call."""
    settings = load_settings(models="noop=benchmarks.noop:Noop", device="cpu", project="connections")
    with tempfile.TemporaryDirectory() as folder, Stack(settings, folder=Path(folder)) as stack:
        stack.wait_ready()
        configure(stack.settings)
        os.environ |= stack.environment
        pids = {"worker": stack.pids["worker-0"], "bridge": stack.pids["bridge"], "caller": os.getpid()}
        connected = Connected(stack.settings.redis_url, pids)
        steps: dict[str, Callable[[], object]] = {
            "idle": lambda: time.sleep(IDLE_S),
            f"{requests:,} infer.delay": lambda: call(threads, requests),
            f"{requests:,} by infer_many": lambda: call_many(threads, requests),
            f"{requests:,} by topic": lambda: publish("connections", requests),
        }
        for name, step in steps.items():
            began_s = time.monotonic()
            with connected.watched():
                step()
            took_s, now = time.monotonic() - began_s, connected.count()
            counts = ", ".join(f"{kind} {connected.most[kind]} → {now[kind]}" for kind in pids)
            yield f"connections, {name}", f"{counts}; {took_s:.1f} s"
        caller.close()


@click.command()
@click.option("--requests", default=10_000, show_default=True)
@click.option("--threads", default=200, show_default=True, help="Of the caller.")
def main(requests: int, threads: int) -> None:
    """Print a table."""
    for what, figure in rows(requests, threads):
        print(f"{what:40}{figure}", flush=True)


if __name__ == "__main__":
    main()

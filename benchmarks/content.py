"""Inline content: what an image of 110 KB costs the bridge and Redis.

`python -m benchmarks.content` starts Redis, Pub/Sub, a bridge and workers on this machine, with a model
that does no work, and publishes images, as they are and as base64 in JSON. CPU is that of `/proc` and of `INFO`; bytes
are what Redis got and sent for each byte of content. The row *bare* is what the same Redis takes for as many bytes of a
client that sets, gets and deletes them, and does nothing else: where the machine is slow, that is slow, too. With the
`typings` folder of another checkout as PYTHONPATH, its code runs: compare what ran one after the other.
"""

import base64
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
from google.cloud import pubsub_v1
from redis import Redis

from lowtide.config import load_settings
from lowtide.local.stack import Stack

IMAGE_BYTES = 110_000
IMAGES = 100
"""So many different ones. They are made before they are sent: a bridge takes few at a time from a slow publisher."""
CHUNK_IMAGES = 20
"""As many travel together as a rule."""
CHUNKS_AT_ONCE = 8
PATIENCE_S = 300.0
SETTLE_S = 3.0
TICKS_S = os.sysconf("SC_CLK_TCK")


def raw(content: bytes) -> tuple[bytes, dict[str, str]]:
    """As a publisher of files sends it."""
    return content, {"model": "noop", "lowtide_content": "raw"}


def in_json(content: bytes) -> tuple[bytes, dict[str, str]]:
    """As a publisher of requests sends it."""
    return json.dumps({"model": "noop", "data": base64.b64encode(content).decode()}).encode(), {}


class Fleet:
    """What is measured, from outside."""

    def __init__(self, stack: Stack, project: str) -> None:
        self._redis = Redis.from_url(stack.settings.redis_url)
        self._bridge = stack.pids["bridge"]
        self._publisher, self._subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        self._topic = self._publisher.topic_path(project, "lowtide-requests")
        results = self._publisher.topic_path(project, "lowtide-results")
        self._mine = self._subscriber.subscription_path(project, "content")
        self._subscriber.create_subscription(name=self._mine, topic=results)

    def send(self, images: int, message: Callable[[bytes], tuple[bytes, dict[str, str]]]) -> None:
        """By topic, until every result is there."""
        answered, done = set[str](), threading.Event()

        def note(result: pubsub_v1.subscriber.message.Message) -> None:
            assert json.loads(result.data)["outputs"] == [IMAGE_BYTES]
            answered.add(result.attributes["message_id"])
            result.ack()
            if len(answered) == images:
                done.set()

        messages = [message(os.urandom(IMAGE_BYTES)) for _ in range(IMAGES)]
        pull = self._subscriber.subscribe(self._mine, callback=note)
        for number in range(images):
            data, attributes = messages[number % IMAGES]
            self._publisher.publish(self._topic, data, **attributes)
        assert done.wait(PATIENCE_S)
        pull.cancel()
        pull.result()

    def spent(self) -> tuple[float, float, int, int]:
        """CPU seconds of the bridge and of Redis so far; bytes that Redis got and sent."""
        fields = Path(f"/proc/{self._bridge}/stat").read_text().rpartition(")")[2].split()
        bridge_s = (int(fields[11]) + int(fields[12])) / TICKS_S
        cpu, stats = self._redis.info("cpu"), self._redis.info("stats")
        redis_s = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
        return bridge_s, redis_s, stats["total_net_input_bytes"], stats["total_net_output_bytes"]

    def bare(self, images: int) -> None:
        """The content of as many images to Redis and back, in chunks of the usual size and as many at once."""
        content = os.urandom(IMAGE_BYTES * CHUNK_IMAGES)
        for number in range(images // CHUNK_IMAGES):
            self._redis.set(f"bare:{number}", content)
            self._redis.get(f"bare:{number}")
            self._redis.delete(f"bare:{number - CHUNKS_AT_ONCE}")

    def cost(self, images: int, work: Callable[[], None]) -> tuple[float, float, float, float]:
        """Milliseconds of CPU of bridge and Redis for an image, beside what they take when idle; and bytes that Redis
        got and sent for each of its bytes.
        """
        time.sleep(SETTLE_S)
        idle, before, began_s = self.idle(), self.spent(), time.monotonic()
        work()
        took_s, after = time.monotonic() - began_s, self.spent()
        bridge_ms, redis_ms = (1000 * (after[i] - before[i] - idle[i] * took_s) / images for i in (0, 1))
        got, sent = ((after[i] - before[i]) / images / IMAGE_BYTES for i in (2, 3))
        return bridge_ms, redis_ms, got, sent

    def idle(self) -> tuple[float, float]:
        """CPU seconds a second of bridge and Redis, with nothing to do."""
        before, began_s = self.spent(), time.monotonic()
        time.sleep(SETTLE_S)
        after, took_s = self.spent(), time.monotonic() - began_s
        return (after[0] - before[0]) / took_s, (after[1] - before[1]) / took_s


def rows(images: int = 1000, workers: int = 2) -> Iterator[tuple[str, str]]:
    """What was measured, and what came out."""
    settings = load_settings(models="noop=benchmarks.noop:Noop", device="cpu", project="content")
    with tempfile.TemporaryDirectory() as folder, Stack(settings, folder=Path(folder), workers=workers) as stack:
        stack.wait_ready()
        os.environ |= stack.environment
        fleet = Fleet(stack, "content")
        fleet.send(images // 10, raw)
        works: dict[str, Callable[[], None]] = {
            "raw": partial(fleet.send, images, raw),
            "in JSON": partial(fleet.send, images, in_json),
            "bare": partial(fleet.bare, images),
        }
        for name, work in works.items():
            bridge_ms, redis_ms, got, sent = fleet.cost(images, work)
            bridge = "" if name == "bare" else f"bridge {bridge_ms:.2f} ms, "
            yield f"image, {name}", f"{bridge}Redis {redis_ms:.2f} ms; {got:.2f} bytes got a byte, {sent:.2f} sent"


@click.command()
@click.option("--images", default=1000, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(images: int, workers: int) -> None:
    """Print a table."""
    for what, figure in rows(images, workers):
        print(f"{what:16}{figure}", flush=True)


if __name__ == "__main__":
    main()

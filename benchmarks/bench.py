"""`make bench`: throughput as ratios within one run, because machines are noisy.

1. End to end: images a second through the whole system over those of a bare loop on the same model and device.
2. The bridge: messages a second over those of a plain `subscribe(callback)` that calls `.delay()`.

The first is from the first publish to the last result on a fleet that is up; the second between the first and the last
result, because there processes start meanwhile. Best of `--rounds`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
from google.cloud import pubsub_v1
from PIL import Image

from lowtide.cli.answers.collect import Collection
from lowtide.cli.sources.sources import find_sources
from lowtide.config import load_settings
from lowtide.local.process import ChildProcess
from lowtide.local.stack import Stack

IMAGES = Path(__file__).parents[1] / "examples" / "digits" / "images"
SEED = 7


@contextmanager
def stack(*, workers: int = 1, **settings: object) -> Iterator[Stack]:
    host = os.environ.get("PUBSUB_EMULATOR_HOST")
    with tempfile.TemporaryDirectory(prefix="lowtide-bench-") as folder:
        running = Stack(load_settings(**settings), folder=Path(folder), workers=workers, pubsub_host=host)
        with running, patch.dict(os.environ, PUBSUB_EMULATOR_HOST=running.pubsub_host):
            running.wait_ready()
            yield running


def photographs(folder: Path, count: int) -> None:
    """JPEGs of 500 × 375 pixels, ImageNet's average, of noise that compresses like a photograph."""
    random = np.random.default_rng(SEED)
    for index in range(count):
        coarse = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        image.save(folder / f"{index:05}.jpg", quality=90)


def digits(folder: Path, count: int) -> None:
    """The held-out digits of the examples, over and over."""
    originals = sorted(IMAGES.iterdir())
    for index in range(count):
        shutil.copyfile(originals[index % len(originals)], folder / f"{index:05}.png")


def between_first_and_last(results: Iterator[object]) -> float:
    """Results a second, the first one's wait left out."""
    next(results)
    started_s = time.perf_counter()
    return sum(1 for _ in results) / (time.perf_counter() - started_s)


def end_to_end(model: str, weights: str, folder: Path) -> float:
    sources = find_sources([str(folder)])
    with stack(models=(model,), weights={model: weights} if weights else {}) as running:
        one = Collection(running.settings, model=model, params={}, local_files=True)
        list(one.results(sources[:64]))  # the first batch pays for what is loaded late
        run = Collection(running.settings, model=model, params={}, local_files=True)
        started_s = time.perf_counter()
        return sum(1 for _ in run.results(sources)) / (time.perf_counter() - started_s)


def bare_loop(model: str, weights: str, folder: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.bare_loop", model, weights, str(folder)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def ours(count: int) -> float:
    """Messages a second through the bridge and a worker whose model does nothing."""
    with stack(workers=0, models=("noop=benchmarks.noop:Noop",), default_model="noop") as running:
        settings = running.settings
        commands = {"worker": ["-m", "lowtide.cli", "worker"]}
        with processes(commands, running.environment) as start:
            return drain(settings.require_project(), settings.topic, settings.results_topic, count, start)


def naive(count: int) -> float:
    """The same through `naive.py`, on servers of the same kind."""
    with stack(workers=0) as running:
        project = running.settings.require_project()
        env = {
            "NAIVE_REDIS_URL": running.settings.redis_url,
            "NAIVE_PROJECT": project,
            "PUBSUB_EMULATOR_HOST": running.pubsub_host,
        }
        publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        for topic in ("naive-requests", "naive-results"):
            publisher.create_topic(name=publisher.topic_path(project, topic))
        subscription = subscriber.subscription_path(project, "naive-requests")
        subscriber.create_subscription(name=subscription, topic=publisher.topic_path(project, "naive-requests"))
        commands = {part: ["-m", "benchmarks.naive", part] for part in ("worker", "bridge")}
        with processes(commands, env) as start:
            return drain(project, "naive-requests", "naive-results", count, start)


@contextmanager
def processes(commands: Mapping[str, list[str]], env: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Python processes that start when the function is called, and stop at the end."""
    with tempfile.TemporaryDirectory(prefix="lowtide-bench-") as folder:
        children = [
            ChildProcess(name, [sys.executable, *command], env=env, log_path=Path(folder) / name)
            for name, command in commands.items()
        ]

        def start() -> None:
            for child in children:
                child.start()

        try:
            yield start
        finally:
            for child in children:
                child.stop()


def drain(project: str, topic: str, results: str, count: int, start: Callable[[], None]) -> float:
    """Publish `count` messages of a kilobyte, start what works on them, and count what comes back."""
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    subscription = subscriber.subscription_path(project, f"bench-{time.time_ns()}")
    subscriber.create_subscription(name=subscription, topic=publisher.topic_path(project, results))
    path = publisher.topic_path(project, topic)
    for future in [publisher.publish(path, bytes(1000), request_id=str(index)) for index in range(count)]:
        future.result(timeout=60)
    start()

    def answers() -> Iterator[None]:
        left = count
        while left > 0:
            pulled = subscriber.pull(subscription=subscription, max_messages=1000, timeout=120).received_messages
            subscriber.acknowledge(subscription=subscription, ack_ids=[each.ack_id for each in pulled])
            left -= len(pulled)
            yield from (None for _ in pulled)

    return between_first_and_last(answers())


def best(rounds: int, measure: Callable[[], float]) -> float:
    return max(measure() for _ in range(rounds))


@click.command()
@click.option("--images", default=512, show_default=True, help="Photographs; ten times as many digits.")
@click.option("--messages", default=10_000, show_default=True, help="Messages for the bridge.")
@click.option("--rounds", default=1, show_default=True, help="Runs of each; the best one counts.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(images: int, messages: int, rounds: int, as_json: bool) -> None:
    """Measure, and print ratios."""
    figures: dict[str, Mapping[str, float]] = {}
    for model, weights, make, count in (
        ("mobilenet_v2", "random", photographs, images),
        ("digits", "", digits, images * 10),
    ):
        with tempfile.TemporaryDirectory(prefix="lowtide-bench-") as name:
            folder = Path(name)
            make(folder, count)
            loop = best(rounds, partial(bare_loop, model, weights, folder))
            whole = best(rounds, partial(end_to_end, model, weights, folder))
            figures[f"end to end, {model}"] = {"ours": whole, "bare loop": loop, "ratio": whole / loop}
    plain = best(rounds, partial(naive, messages))
    bridge = best(rounds, partial(ours, messages))
    figures["bridge"] = {"ours": bridge, "subscribe(callback)": plain, "ratio": bridge / plain}
    if as_json:
        print(json.dumps(figures))
        return
    for what, measured in figures.items():
        (_, mine), (other, theirs), (_, ratio) = measured.items()
        print(f"{what:<26} {mine:>9.0f}/s   {other:<20} {theirs:>9.0f}/s   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()

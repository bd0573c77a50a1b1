"""A fleet of real processes, started by the documented commands and environment variables only."""

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from google.cloud import pubsub_v1
from redis import Redis

from lowtide.local.process import ChildProcess
from lowtide.tasks.keys import Keys
from lowtide.tasks.presence import live

READY_S = 60.0


def eventually(true: Callable[[], object], *, within_s: float, what: str) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {within_s:.0f} s"
        time.sleep(0.1)


class Fleet:
    """Processes by name. `env` is what an operator would export."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env = dict(env)
        self.project = env["LOWTIDE_PROJECT"]
        self._folder = folder
        self._processes: dict[str, ChildProcess] = {}
        self._redis = Redis.from_url(env["LOWTIDE_REDIS_URL"])
        self._keys = Keys("")

    def start(self, name: str, *arguments: str, **env: str) -> None:
        process = ChildProcess(
            name,
            [sys.executable, "-m", "lowtide.cli", *arguments],
            env={**self.env, **env},
            log_path=self._folder / f"{name}.log",
            restart=False,
        )
        self._processes[name] = process
        process.start()

    def wait_ready(self, *, workers: int = 0, bridges: int = 0) -> None:
        def signed_in() -> bool:
            return (
                len(live(self._redis, self._keys, "worker")) >= workers
                and len(live(self._redis, self._keys, "bridge")) >= bridges
            )

        try:
            eventually(signed_in, within_s=READY_S, what=f"{workers} workers and {bridges} bridges")
        except AssertionError:
            for name, process in self._processes.items():
                print(f"--- {name}\n{process.tail(40)}")
            raise

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.stop()

    def log(self, name: str) -> str:
        return self._processes[name].tail(1000)

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()
        self._processes.clear()
        self._redis.close()


class Topics:
    """The user's side: a plain google-cloud-pubsub publisher and subscriber."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()

    def topic(self, name: str) -> str:
        return self.publisher.topic_path(self.project, name)

    def listen(self, topic: str, *, make: bool = False) -> str:
        if make:
            self.publisher.create_topic(name=self.topic(topic))
        name = self.subscriber.subscription_path(self.project, f"listen-{uuid.uuid4().hex[:8]}")
        self.subscriber.create_subscription(name=name, topic=self.topic(topic))
        return name

    def publish(self, data: bytes, topic: str = "lowtide-requests", **attributes: str) -> str:
        return self.publisher.publish(self.topic(topic), data, **attributes).result(timeout=30)

    def collect(self, subscription: str, count: int, *, within_s: float = 60.0) -> list[pubsub_v1.types.PubsubMessage]:
        """`count` different messages, acknowledged; fewer when the time is over."""
        found: dict[str, pubsub_v1.types.PubsubMessage] = {}
        deadline_s = time.monotonic() + within_s
        while len(found) < count and time.monotonic() < deadline_s:
            response = self.subscriber.pull(
                subscription=subscription, max_messages=1000, return_immediately=True, timeout=30
            )
            if not response.received_messages:
                time.sleep(0.05)
                continue
            found.update({m.message.message_id: m.message for m in response.received_messages})
            self.subscriber.acknowledge(
                subscription=subscription, ack_ids=[m.ack_id for m in response.received_messages]
            )
        return list(found.values())

    def close(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self.subscriber.close()


@pytest.fixture
def fleet(redis_url: str, google_emulator, project: str, tmp_path: Path, monkeypatch) -> Iterator[Fleet]:
    """Google's emulator and a separately started Redis; nothing else runs yet."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", google_emulator.host)
    env = {
        "LOWTIDE_REDIS_URL": redis_url,
        "LOWTIDE_PROJECT": project,
        "LOWTIDE_DEFAULT_MODEL": "digits",
        "PUBSUB_EMULATOR_HOST": google_emulator.host,
    }
    running = Fleet(env, tmp_path)
    yield running
    running.stop()


@pytest.fixture
def topics(fleet: Fleet) -> Iterator[Topics]:
    side = Topics(fleet.project)
    yield side
    side.close()

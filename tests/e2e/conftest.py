"""A fleet of real processes, started by the documented commands and environment variables only."""

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from google.api_core.exceptions import DeadlineExceeded
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
        self.folder = folder
        self._processes: dict[str, ChildProcess] = {}
        self._redis = Redis.from_url(env["LOWTIDE_REDIS_URL"])
        self._keys = Keys("")

    eventually = staticmethod(eventually)

    def start(self, name: str, *arguments: str, **env: str) -> None:
        process = ChildProcess(
            name,
            [sys.executable, "-m", "lowtide.cli", *arguments],
            env={**self.env, **env},
            log_path=self.folder / f"{name}.log",
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
            logs = "\n".join(f"--- {name}\n{process.tail(40)}" for name, process in self._processes.items())
            pytest.fail(f"the fleet did not become ready\n{logs}")

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

    def collect(
        self, subscription: str, request_ids: Iterable[str], *, within_s: float = 60.0, enough: int | None = None
    ) -> dict[str, pubsub_v1.types.PubsubMessage]:
        """The messages that answer these requests, by request id; fewer when time is over, or there are `enough`."""
        missing, found = set(request_ids), {}
        deadline_s = time.monotonic() + within_s
        while missing and time.monotonic() < deadline_s and len(found) < (enough or len(found) + 1):
            try:
                response = self.subscriber.pull(subscription=subscription, max_messages=1000, timeout=2, retry=None)
            except DeadlineExceeded:
                continue
            for received in response.received_messages:
                given = received.message.attributes
                request_id = given.get("lowtide_request_id") or given["request_id"]
                if request_id in missing:
                    missing.discard(request_id)
                    found[request_id] = received.message
            if response.received_messages:
                ack_ids = [received.ack_id for received in response.received_messages]
                self.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
        return found

    def close(self) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self.subscriber.close()


@pytest.fixture(scope="module")
def fleet(redis_server, google_emulator, tmp_path_factory) -> Iterator[Fleet]:
    """Google's emulator and a separately started Redis; nothing else runs yet."""
    with Redis.from_url(redis_server.url) as redis:
        redis.flushall()
    folder = tmp_path_factory.mktemp("fleet")
    env = {
        "LOWTIDE_REDIS_URL": redis_server.url,
        "LOWTIDE_PROJECT": f"test-{uuid.uuid4().hex[:12]}",
        "LOWTIDE_DEFAULT_MODEL": "digits",
        "PUBSUB_EMULATOR_HOST": google_emulator.host,
    }
    running = Fleet(env, folder)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def topics(fleet: Fleet) -> Iterator[Topics]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", fleet.env["PUBSUB_EMULATOR_HOST"])
        side = Topics(fleet.project)
    yield side
    side.close()

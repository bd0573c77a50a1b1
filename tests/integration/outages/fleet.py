"""A bridge and a worker as processes, with a Redis and a Pub/Sub that can be broken, for the tests beside."""

import json
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from redis import Redis, RedisError

from lowtide.bridge.pubsub.client import Pubsub, PubsubError, PullRequest, message_of
from lowtide.bridge.pubsub.create import Admin
from lowtide.config import load_settings
from lowtide.local.process import ChildProcess
from lowtide.local.redis import EmbeddedRedis
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from tests.ports import steady_port
from tests.services import PubsubEndpoint
from tests.waiting import until

RESULTS = "lowtide-results"
END_S = 25.0
"""Of 5 s of grace and the 4 s after it, on a slow machine."""
SAID = re.compile(r"lowtide\.config\.process\.outage: (.*): (trying on|back after)")

Serve = Callable[..., AbstractContextManager[PubsubEndpoint]]

MODEL = '''
import time
import torch
from lowtide.workers.model import Model

BATCH_S = 0.01

class Slow(Model):
    """Answers with the content's length, after as long as a request asks for."""

    def load(self, device):
        self.version = "1"

    def decode(self, content, params):
        return torch.tensor([float(len(content)), params.get("sleep_s", 0.0)])

    def predict(self, batch):
        time.sleep(BATCH_S + float(batch[:, 1].max()))
        return batch[:, 0]

    def encode(self, output, params):
        return [output.item()]
'''


class PubsubServer:
    """A Pub/Sub server as a process that can be stopped, continued and started afresh, without its memory, at the same
    address. `serve`, one of tests.services: which server.
    """

    def __init__(self, serve: Serve, folder: Path) -> None:
        self.port = steady_port()
        self.host = f"127.0.0.1:{self.port}"
        self.serve = serve
        self._log = folder / "pubsub.log"
        self._running = ExitStack()
        self._pid: int | None = None

    def start(self) -> None:
        self._pid = self._running.enter_context(self.serve(self._log, port=self.port)).pid

    def signal(self, signum: int) -> None:
        assert self._pid
        os.kill(self._pid, signum)

    def stop(self) -> None:
        """Without a word to anybody. Idempotent."""
        if self._pid:
            self.signal(signal.SIGKILL)
            self._pid = None
            self._running.close()


class OutageFleet:
    """What the tests break and look at. `confirmed`: ids of messages that Pub/Sub took; `copies`: id → results."""

    def __init__(self, folder: Path, redis: EmbeddedRedis, pubsub_host: str, project: str, **fields: Any) -> None:
        self.folder = folder
        self.server = redis
        given = {"models": "slow=slow_model:Slow", "default_model": "slow", "grace_s": 5.0, "device": "cpu", **fields}
        given["health_port"] = steady_port()
        self.settings = load_settings(redis_url=redis.url, project=project, **given)
        self.keys = Keys.of(self.settings)
        self.redis = Redis.from_url(redis.url, socket_timeout=5)
        self.confirmed: list[str] = []
        self.copies: Counter[str] = Counter()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PUBSUB_EMULATOR_HOST", pubsub_host)
            self.pubsub = Pubsub()
        self.processes: dict[str, ChildProcess] = {}
        self.env = {
            **self.settings.environment(),
            "PUBSUB_EMULATOR_HOST": pubsub_host,
            "PYTHONPATH": str(folder),
        }
        self._stopped = threading.Event()
        self._collector = threading.Thread(target=self._collect, daemon=True)
        (folder / "slow_model.py").write_text(MODEL)

    def start(self, name: str, command: str, **env: str) -> None:
        process = ChildProcess(
            name,
            [sys.executable, "-m", "lowtide.cli", *command.split()],
            env={**self.env, **env},
            log_path=self.folder / f"{name}.log",
            restart=False,
        )
        self.processes[name] = process
        process.start()

    def begin(self) -> None:
        self.start_both()
        until(lambda: self.alive() == {"bridge", "worker"}, what="bridge and worker sign in")
        self._collector.start()

    def start_both(self) -> None:
        self.start("bridge", "bridge --create")
        self.start("worker", "worker", LOWTIDE_HEALTH_PORT="0")

    def stop_both(self, announce: Callable[[], object]) -> None:
        """Both end well, and in time, by what is said to them."""
        running = {name: process._process for name, process in self.processes.items()}
        announce()
        for name, process in running.items():
            assert process is not None
            assert process.wait(END_S) == 0, f"{name}:\n{self.log(name)[-3000:]}"

    def alive(self) -> set[str]:
        try:
            return {kind for kind in ("bridge", "worker") if live(self.redis, self.keys, kind)}
        except RedisError:
            return set()

    def log(self, name: str) -> str:
        return self.processes[name].log_path.read_text(errors="replace")

    def health(self) -> dict[str, Any]:
        """What the bridge says of itself."""
        url = f"http://127.0.0.1:{self.settings.health_port}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return {"reason": "", **json.load(answer)}
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    def waiting(self) -> set[str]:
        """Ids of the messages that nobody has: pulled, and handed back at once."""
        subscription = self.settings.subscription_path(self.settings.subscription[0])
        request = PullRequest(subscription=subscription, max_messages=1000, return_immediately=True)
        pulled: list[Any] = []
        while received := self.pubsub._pull(request, timeout=5).received_messages:
            pulled += received
        self.pubsub.modify_ack_deadline(subscription, [one.ack_id for one in pulled], 0)
        return {one.message.message_id for one in pulled}

    def made(self) -> bool:
        """Topics and subscriptions are there: what is published before is for nobody."""
        try:
            return Admin(self.pubsub).has_subscription(self.settings.subscription_path(self.settings.subscription[0]))
        except PubsubError:
            return False

    def publish(self, count: int) -> list[str]:
        """Raises PubsubError."""
        messages = [message_of(b"x" * (1 + index % 100), {}) for index in range(count)]
        ids = list(self.pubsub.publish(self.settings.topic_path(self.settings.topic), messages))
        self.confirmed += ids
        return ids

    @contextmanager
    def load(self, *, at_once: int = 5, every_s: float = 0.05) -> Iterator[None]:
        """Publishes all the time."""
        done = threading.Event()

        def publish() -> None:
            while not done.wait(every_s):
                try:
                    self.publish(at_once)
                except PubsubError:
                    done.wait(0.5)

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def missing(self) -> set[str]:
        return set(self.confirmed) - set(self.copies)

    def duplicates(self) -> dict[str, int]:
        return {message: count for message, count in self.copies.items() if count > 1}

    def close(self) -> None:
        self._stopped.set()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.join()
        if self._collector.is_alive():
            self._collector.join()
        self.pubsub.close()
        self.redis.close()

    def _collect(self) -> None:
        subscription = self.settings.subscription_path(RESULTS)
        while not self._stopped.is_set():
            try:
                # At once: a pull that waits would lease what comes at its deadline to nobody.
                request = PullRequest(subscription=subscription, max_messages=1000, return_immediately=True)
                received = self.pubsub._pull(request, timeout=5).received_messages
                self.copies.update(json.loads(one.message.data)["message_id"] for one in received)
                self.pubsub.acknowledge(subscription, [one.ack_id for one in received])
            except (grpc.RpcError, PubsubError):
                received = []
            self._stopped.wait(0 if received else 0.1)


@contextmanager
def outage_fleet(
    folder: Path, redis: EmbeddedRedis, pubsub_host: str, project: str, **fields: Any
) -> Iterator[OutageFleet]:
    """A fleet that is ready, and ends with the block."""
    fleet = OutageFleet(folder, redis, pubsub_host, project, **fields)
    try:
        fleet.begin()
        yield fleet
    finally:
        fleet.close()


@contextmanager
def each_process_says_it_once(fleet: OutageFleet) -> Iterator[dict[str, set[str]]]:
    """Gives what the outages were: process → sentences."""
    read = {name: len(fleet.log(name)) for name in fleet.processes}
    said: dict[str, set[str]] = {}
    yield said
    for name in read:
        said[name] = {service for service, _ in _said(fleet, name, read[name])}
        once = Counter((service, what) for service in said[name] for what in ("trying on", "back after"))
        until(
            lambda name=name, once=once: _said(fleet, name, read[name]) == once, within_s=20, what=f"{once} of {name}"
        )


def _said(fleet: OutageFleet, name: str, start_at: int) -> Counter[tuple[str, str]]:
    """Service and what is told of it, from there on in the log."""
    return Counter(SAID.findall(fleet.log(name)[start_at:]))


@contextmanager
def everything_gets_one_result(fleet: OutageFleet, *, survive: bool = True) -> Iterator[None]:
    """What is published in the block; and the processes survive."""
    fleet.confirmed.clear()
    fleet.copies.clear()
    processes = {name: process.pid for name, process in fleet.processes.items()}
    with fleet.load():
        yield
    until(lambda: not fleet.missing(), what=f"{len(fleet.missing())} results")
    time.sleep(1.0)  # for copies
    assert fleet.duplicates() == {}
    assert not survive or {name: process.pid for name, process in fleet.processes.items()} == processes

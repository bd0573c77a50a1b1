"""`lowtide up` and its fleet: from zero and back, and nothing lost."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1

from lowtide.config import load_settings
from lowtide.local.group import Event
from lowtide.local.stack import Stack
from lowtide.local.vm import Vm
from lowtide.tasks.keys import Keys
from lowtide.tasks.presence import live
from lowtide.tasks.store import connect
from tests.fleet import eventually
from tests.services import PubsubEndpoint

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 3000
EXPORT_S = 15.0
START_S = 90.0
"""For a worker's imports on a busy machine, beside the two export periods."""
FLEET = {
    "LOWTIDE_MODELS": "slow=slow:Slow",
    "LOWTIDE_FLEET_MAX": "2",
    "LOWTIDE_FLEET_WORK_S": "2",
    "LOWTIDE_FLEET_STABILIZATION_S": "10",
}

SLOW = """
import time
import torch
from lowtide.workers.model import Model

class Slow(Model):
    # Half a minute of one worker for all of them.
    def load(self, device):
        self.version = "1"

    def decode(self, content, params):
        return torch.tensor([*content[:1]])

    def predict(self, batch):
        time.sleep(0.01 * len(batch))
        return batch

    def encode(self, output, params):
        return output.tolist()
"""

ON_ANY_PORTS = """
from lowtide.cli import up
from lowtide.local.stack import Ports
up.PORTS = Ports()
up.command()
"""
"""`lowtide up` beside another one that starts at the same moment: both would find the usual ports free."""


class Up:
    """The process, and what it has said so far."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        (folder / "slow.py").write_text(SLOW)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "PUBSUB_"))}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ON_ANY_PORTS, "--no-flower"],
                cwd=ROOT,
                env={**kept, **FLEET, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    @property
    def environment(self) -> dict[str, str]:
        [exports] = re.findall(r"^\s*export (.*)$", self.said, re.MULTILINE)
        return dict(pair.split("=", 1) for pair in shlex.split(exports))

    @property
    def sizes(self) -> list[tuple[int, int, int]]:
        """Running, booting and wanted, of each change."""
        found = re.findall(r"fleet: (\d+) running, (\d+) booting, wanted (\d+):", self.said)
        return [(int(running), int(booting), int(wanted)) for running, booting, wanted in found]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Burst:
    """3,000 requests, and what became of them."""

    def __init__(self, project: str) -> None:
        self._project = project
        self.sent: set[str] = set()
        self.answered: set[str] = set()

    def __enter__(self) -> "Burst":
        self._publisher = pubsub_v1.PublisherClient()
        self._subscriber = pubsub_v1.SubscriberClient()
        self._mine = self._subscriber.subscription_path(self._project, "mine")
        topic = self._publisher.topic_path(self._project, "lowtide-results")
        self._subscriber.create_subscription(name=self._mine, topic=topic)
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.stop()
        self._subscriber.close()

    def publish(self) -> None:
        topic = self._publisher.topic_path(self._project, "lowtide-requests")
        futures = [self._publisher.publish(topic, b"x", model="slow") for _ in range(REQUESTS)]
        self.sent = {future.result(60) for future in futures}

    def collect(self, *, within_s: float, enough: int = REQUESTS) -> None:
        """Until so many are answered."""
        until_s = time.monotonic() + within_s
        while len(self.answered) < enough:
            assert time.monotonic() < until_s, f"{len(self.answered)} of {enough} are answered"
            with contextlib.suppress(DeadlineExceeded):
                found = self._subscriber.pull(subscription=self._mine, max_messages=500, timeout=2, retry=None)
                self.answered |= {each.message.attributes["message_id"] for each in found.received_messages}
                if ack_ids := [each.ack_id for each in found.received_messages]:
                    self._subscriber.acknowledge(subscription=self._mine, ack_ids=ack_ids)
        assert self.answered <= self.sent


def at_work(stack: Stack) -> list[Vm]:
    """VMs whose worker has started: one that still loads waits by itself while a notice stands."""
    assert stack.group is not None
    slots = {name.split(":")[1] for name in live(connect(stack.settings), Keys.of(stack.settings), "worker")}
    return [vm for vm in stack.group.vms if vm.name in slots]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    up.close()


@pytest.mark.timeout(400)
def test_a_burst_makes_workers_and_its_end_deletes_them_and_every_request_has_its_result(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: "lowtide status" in up.said, within_s=120, what="the welcome")
    assert up.sizes == [], "nothing waits, so nobody works"
    env = up.environment
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", env["PUBSUB_EMULATOR_HOST"])
    with Burst(env["LOWTIDE_PROJECT"]) as burst:
        burst.publish()
        eventually(lambda: up.sizes, within_s=2 * EXPORT_S + 5, what="a decision")
        burst.collect(within_s=START_S)
    eventually(lambda: up.sizes[-1] == (0, 0, 0), within_s=120, what="an empty fleet")
    assert max(running for running, _, _ in up.sizes) == 2, (
        "first one, that Pub/Sub's count wakes, then all there may be"
    )
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0


@pytest.mark.timeout(400)
def test_half_of_the_workers_preempted_on_the_way_lose_nothing_and_are_replaced(
    google_emulator: PubsubEndpoint, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Google's emulator, of whose messages no Monitoring knows: the bridges' words alone wake the fleet."""
    policy = {name.removeprefix("LOWTIDE_").lower(): value for name, value in FLEET.items()}
    policy["fleet_work_s"] = "0.2"  # a bridge leases what its workers have room for, and no more
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    events: list[Event] = []
    host = google_emulator.host
    with Stack(
        load_settings(project=project, **policy),
        folder=tmp_path,
        workers=None,
        boot_s=1.0,
        on_event=events.append,
        pubsub_host=host,
    ) as stack:
        stack.wait_ready()
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
        with Burst(str(stack.settings.project)) as burst:
            burst.publish()
            eventually(lambda: len(at_work(stack)) == 2, within_s=2 * EXPORT_S + START_S, what="two workers")
            victim = at_work(stack)[0]
            victim.preempt()
            burst.collect(within_s=START_S)
            victim.join()
        eventually(lambda: events[-1].running + events[-1].booting == 0, within_s=120, what="an empty fleet")
    assert "instance/preempted is TRUE: draining" in (tmp_path / f"{victim.name}.log").read_text()

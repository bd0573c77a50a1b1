"""The fleet of `lowtide up`: from zero and back, and nothing lost."""

import contextlib
import time
from pathlib import Path

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1

from lowtide.config import load_settings
from lowtide.local.group import Event
from lowtide.local.stack import Stack
from lowtide.local.vm import Vm
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from tests.fleet import READY_S
from tests.services import PubsubEndpoint
from tests.waiting import until

REQUESTS = 1000
SETTINGS = {
    "models": "slow=slow:Slow",
    "fleet_max": 2,
    "fleet_work_s": 0.02,  # a bridge leases one chunk while there is no worker, and that asks for all
    "fleet_stabilization_s": 10,
}

SLOW = """
import time
import torch
from lowtide.workers.model import Model

class Slow(Model):
    # 20 s of one worker for all of them: two start together, and both get some.
    def load(self, device):
        self.version = "1"

    def decode(self, content, params):
        return torch.tensor([*content[:1]])

    def predict(self, batch):
        time.sleep(0.02 * len(batch))
        return batch

    def encode(self, output, params):
        return output.tolist()
"""


class Burst:
    """Requests, and what became of them."""

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
        self.sent = {future.result(READY_S) for future in futures}

    def collect(self) -> None:
        """Until all are answered."""
        until_s = time.monotonic() + READY_S
        while len(self.answered) < REQUESTS:
            assert time.monotonic() < until_s, f"{len(self.answered)} of {REQUESTS} are answered"
            with contextlib.suppress(DeadlineExceeded):
                found = self._subscriber.pull(subscription=self._mine, max_messages=500, timeout=2, retry=None)
                self.answered |= {each.message.attributes["message_id"] for each in found.received_messages}
                if ack_ids := [each.ack_id for each in found.received_messages]:
                    self._subscriber.acknowledge(subscription=self._mine, ack_ids=ack_ids)
        assert self.answered <= self.sent


def at_work(stack: Stack) -> list[Vm]:
    """VMs whose worker has started: one that still loads waits by itself while a notice stands."""
    assert stack.group is not None
    statuses = live(connect(stack.settings), Keys.of(stack.settings), "worker").values()
    slots = {status["name"].split(":")[1] for status in statuses}
    return [vm for vm in stack.group.vms if vm.name in slots]


def names(stack: Stack) -> set[str]:
    assert stack.group is not None
    return {vm.name for vm in stack.group.vms}


@pytest.mark.timeout(6 * READY_S)
def test_a_burst_makes_workers_one_that_is_preempted_loses_nothing_and_is_replaced_and_the_end_deletes_all(
    google_emulator: PubsubEndpoint, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Google's emulator, of whose messages no Monitoring knows: the bridge's words alone wake the fleet."""
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", google_emulator.host)
    events: list[Event] = []
    with Stack(
        load_settings(project=project, **SETTINGS),
        folder=tmp_path,
        workers=None,
        boot_s=1.0,
        on_event=events.append,
        pubsub_host=google_emulator.host,
    ) as stack:
        stack.wait_ready(READY_S)
        assert events == [], "nothing waits, so nobody works"
        with Burst(project) as burst:
            burst.publish()
            until(lambda: len(at_work(stack)) == 2, what="two workers")
            victim = at_work(stack)[0]
            victim.preempt()
            until(lambda: "vm-3" in names(stack), what="another in its place")
            burst.collect()
        until(lambda: events[-1].running + events[-1].booting == 0, what="an empty fleet")
    assert max(event.running + event.booting for event in events) == 2, "all there may be"
    assert "instance/preempted is TRUE: draining" in (tmp_path / f"{victim.name}.log").read_text()

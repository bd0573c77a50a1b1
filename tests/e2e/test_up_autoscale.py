"""`lowtide up --autoscale`: from zero and back, and nothing lost."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud import pubsub_v1

from tests.fleet import LOWTIDE, eventually

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 3000
EXPORT_S = 15.0
START_S = 90.0
"""For a worker's imports on a busy machine, beside the two export periods."""
FLEET = {
    "LOWTIDE_FLEET_MAX": "2",
    "LOWTIDE_FLEET_WORK_S": "2",
    "LOWTIDE_FLEET_STABILIZATION_S": "10",
}


class Up:
    """The process, and what it has said so far."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "PUBSUB_"))}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*LOWTIDE, "up", "--autoscale", "--no-flower"],
                cwd=ROOT,
                env={**kept, **FLEET, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    @property
    def environment(self) -> dict[str, str]:
        [exports] = re.findall(r"^\s*export (.*)$", self.said, re.MULTILINE)
        return dict(pair.split("=", 1) for pair in exports.split())

    @property
    def sizes(self) -> list[tuple[int, int, int]]:
        """Running, booting and wanted, of each change."""
        found = re.findall(r"fleet: (\d+) running, (\d+) booting, wanted (\d+):", self.said)
        return [(int(running), int(booting), int(wanted)) for running, booting, wanted in found]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


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
    image = (ROOT / "examples" / "digits" / "images" / "0001.png").read_bytes()

    with pubsub_v1.SubscriberClient() as subscriber, pubsub_v1.PublisherClient() as publisher:
        topic = publisher.topic_path(env["LOWTIDE_PROJECT"], "lowtide-results")
        mine = subscriber.subscription_path(env["LOWTIDE_PROJECT"], "mine")
        subscriber.create_subscription(name=mine, topic=topic)
        requests = publisher.topic_path(env["LOWTIDE_PROJECT"], env.get("LOWTIDE_TOPIC", "lowtide-requests"))
        published_s = time.monotonic()
        futures = [publisher.publish(requests, image, model="digits") for _ in range(REQUESTS)]
        sent = {future.result(60) for future in futures}
        eventually(lambda: up.sizes, within_s=2 * EXPORT_S + 5, what="a decision")
        answered: set[str] = set()
        until_s = published_s + 2 * EXPORT_S + START_S
        while answered != sent and time.monotonic() < until_s:
            found = subscriber.pull(subscription=mine, max_messages=1000, timeout=10, retry=None)
            answered |= {each.message.attributes["message_id"] for each in found.received_messages}
            if ack_ids := [each.ack_id for each in found.received_messages]:
                subscriber.acknowledge(subscription=mine, ack_ids=ack_ids)

    assert answered == sent
    eventually(lambda: up.sizes[-1] == (0, 0, 0), within_s=120, what="an empty fleet")
    assert max(running for running, _, _ in up.sizes) == 2
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0

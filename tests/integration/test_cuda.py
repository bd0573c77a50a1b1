"""A worker on a real GPU: what a model can do to it. Skipped where there is none."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from redis import Redis

from lowtide.config import load_settings
from lowtide.tasks.app import configure
from lowtide.tasks.infer import infer_chunk
from lowtide.tasks.redis.keys import Keys
from tests.fleet import READY_S, Fleet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

ANSWER, TOO_LARGE, BREAK = range(3)
LOST_S = 240
"""Three processes are lost one after the other, and each loss is noticed after 20 s."""

MODEL = f"""
import torch
from lowtide.workers.model import Model

ANSWER, TOO_LARGE, BREAK = {ANSWER}, {TOO_LARGE}, {BREAK}

class Hungry(Model):
    '''Answers every number with itself, and wants a sixth of the device's memory for each.'''

    def load(self, device):
        self.version = "1"
        self.total = torch.cuda.get_device_properties(device).total_memory

    def decode(self, content, params):
        return torch.tensor([*content])

    def predict(self, batch):
        deeds = batch[:, 0].tolist()
        if BREAK in deeds:
            batch[batch[:, 0] + 10**6]  # a device-side assert: the context is lost
        room = torch.empty(sum(self.total * 2 if deed == TOO_LARGE else self.total // 6 for deed in deeds),
                           dtype=torch.uint8, device=batch.device)
        return batch[:, 1:]

    def encode(self, output, params):
        return [int(output.item())]
"""


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "hungry.py").write_text(MODEL)
    configure(load_settings(redis_url=redis_url, models="hungry=hungry:Hungry"))
    env = {
        "LOWTIDE_REDIS_URL": redis_url,
        "LOWTIDE_PROJECT": "none",
        "LOWTIDE_MODELS": "hungry=hungry:Hungry",
        "LOWTIDE_DEVICE": "cuda:0",
        "PYTHONPATH": str(tmp_path),
    }
    fleet = Fleet(env, tmp_path)
    fleet.start("worker", "worker", restart=True)
    yield fleet
    fleet.stop()


def asked(*deeds: int, within_s: float) -> list[str]:
    """What becomes of requests that travel together: their number, or the error."""
    requests = [
        {"model": "hungry", "data": base64.b64encode(bytes([deed, number])).decode()}
        for number, deed in enumerate(deeds)
    ]
    outcomes = infer_chunk.delay(requests).get(within_s)
    return [str(one["outputs"][0]) if one["status"] == "ok" else one["error"]["type"] for one in outcomes]


def test_a_batch_too_large_for_the_device_is_halved_and_the_ceiling_remembered(fleet: Fleet) -> None:
    fleet.wait_ready(workers=1)
    numbers, said = [str(number) for number in range(40)], []
    for _ in range(2):
        assert asked(*[ANSWER] * 40, within_s=60) == numbers
        said.append(fleet.log("worker").count("out of memory on cuda:0"))
    assert said[0] > 0
    assert said[1] == said[0], "it is found out once"

    assert asked(*[ANSWER] * 7, TOO_LARGE, *[ANSWER] * 7, within_s=60) == [
        *numbers[:7],
        "out_of_memory",
        *numbers[8:15],
    ]


@pytest.mark.timeout(LOST_S + READY_S)
def test_a_lost_context_ends_the_process_and_who_lost_it_is_answered_apart(fleet: Fleet, redis_url: str) -> None:
    fleet.wait_ready(workers=1)
    assert asked(ANSWER, ANSWER, BREAK, ANSWER, within_s=LOST_S) == ["0", "1", "worker_lost", "3"]
    worker = fleet.process("worker")
    assert (worker.restarts, worker.exit_code) == (4, 70)
    assert fleet.log("worker").count("the worker ends: cuda:0 is lost") == 4
    with Redis.from_url(redis_url) as redis:
        assert not redis.hlen(Keys("").holders)

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.result import AsyncResult
from redis import Redis

from lowtide.cli.fleet.status_report import state_of
from lowtide.config import Settings
from lowtide.config.process.health import Health
from lowtide.tasks import RequestFailed, infer
from lowtide.tasks.app import configure
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.rates import measured
from lowtide.tasks.redis.registry import alive, live
from lowtide.workers.rate_teller import RateTeller
from lowtide.workers.worker import parts_beside
from tests.cloud_storage import CloudStorage, Forbidden
from tests.fleet import Fleet
from tests.ports import steady_port
from tests.waiting import until

WAIT_S = 90.0
KEYS = Keys("")

MODEL = """
import torch
from lowtide.workers.model import Model

class Length(Model):
    def load(self, device):
        self.version = "1"

    def decode(self, content, params):
        return torch.tensor([float(len(content))])

    def predict(self, batch):
        return batch

    def encode(self, output, params):
        return [int(output)]
"""
REQUEST = {"model": "length", "uri": "gs://photos/cat.jpg"}


class Storage(CloudStorage):
    """One photo, for those who have access."""

    def __init__(self, *, access: bool) -> None:
        self.access = access
        self.refused = 0
        super().__init__()
        self.objects["photos/cat.jpg"] = b"cat"

    def read(self, name: str) -> bytes | None:
        if not self.access:
            self.refused += 1
            raise Forbidden
        return super().read(name)


class Traffic:
    """Requests that come steadily. Fails with what was asked within the block and not answered."""

    def __init__(self) -> None:
        self._asked: list[AsyncResult] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def answered(self) -> int:
        """Waits for all; how many have outputs, of those that have."""
        count = 0
        for asked in self._asked:
            with suppress(RequestFailed):
                assert asked.get(WAIT_S) == [3]
                count += 1
        return count

    def __len__(self) -> int:
        return len(self._asked)

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            self._asked.append(infer.delay(REQUEST))


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    configure(Settings(redis_url=redis_url))
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "length.py").write_text(MODEL)
    env = {
        "LOWTIDE_REDIS_URL": redis_url,
        "LOWTIDE_PROJECT": "test-suspect",
        "LOWTIDE_MODELS": "length=length:Length",
        "LOWTIDE_DEVICE": "cpu",
        "LOWTIDE_GS_BUCKETS": "photos",
        "LOWTIDE_DECODE_THREADS": "2",
        "PYTHONPATH": str(tmp_path),
    }
    fleet = Fleet({**os.environ, **env}, tmp_path)
    yield fleet
    fleet.stop()


def health(port: int) -> tuple[int, Mapping[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_worker_that_lost_its_access_stops_taking_says_why_and_comes_back_with_it(
    fleet: Fleet, client: Redis
) -> None:
    port = steady_port()

    def states() -> list[str]:
        return sorted(state_of(status) for status in live(client, KEYS, "worker").values())

    with closing(Storage(access=True)) as storage, closing(Storage(access=False)) as shut:
        fleet.start("good", "worker", STORAGE_EMULATOR_HOST=storage.url)
        fleet.start("bad", "worker", STORAGE_EMULATOR_HOST=shut.url, LOWTIDE_HEALTH_PORT=str(port))
        fleet.wait_ready(workers=2)
        with Traffic():
            until(lambda: health(port)[0] == 503, what="being found out")
        status, said = health(port)
        assert (status, said["status"]) == (503, "suspect")
        assert "requests of length failed here with forbidden, while other workers answered" in said["reason"]
        until(lambda: "suspect" in states(), what="its status")
        assert alive(client, KEYS, "worker") == 1, "which is no capacity"

        refused = shut.refused
        with Traffic() as traffic:
            until(lambda: shut.refused > refused, what="a try")
        assert traffic.answered() == len(traffic)

        shut.access = True
        with Traffic() as traffic:
            until(lambda: health(port)[0] == 200, what="being well again")
        assert traffic.answered() == len(traffic)
        until(lambda: "suspect" not in states(), what="its status")


def test_what_a_suspect_worker_measured_counts_for_nobody(client: Redis) -> None:
    standing: Any = SimpleNamespace(reason="it fails what others answer")
    engine: Any = SimpleNamespace(rates={"length": 9.0})
    parts = parts_beside(Settings(health_port=0), client, lambda: Health(ok=True), engine, standing)
    (teller,) = (part for part in parts if isinstance(part, RateTeller))
    teller.turn()
    assert measured(client, KEYS) == {}
    standing.reason = None
    teller.turn()
    assert measured(client, KEYS) == {"length": 9.0}


def test_a_lone_worker_without_access_answers_so(fleet: Fleet, client: Redis) -> None:
    port = steady_port()
    with closing(Storage(access=False)) as shut:
        fleet.start("lone", "worker", STORAGE_EMULATOR_HOST=shut.url, LOWTIDE_HEALTH_PORT=str(port))
        fleet.wait_ready(workers=1)
        with Traffic() as traffic:
            until(lambda: len(traffic) >= 300, what="traffic")
        assert traffic.answered() == 0
        assert health(port)[0] == 200


def test_of_a_fleet_that_loses_its_access_at_once_nobody_is_suspect(fleet: Fleet, client: Redis) -> None:
    with closing(Storage(access=True)) as storage:
        for name in ("one", "other"):
            fleet.start(name, "worker", STORAGE_EMULATOR_HOST=storage.url)
        fleet.wait_ready(workers=2)
        with Traffic() as traffic:
            until(lambda: len(traffic) >= 200, what="traffic")
        assert traffic.answered() == len(traffic)  # of which both told with their heartbeats

        storage.access = False
        with Traffic() as traffic:
            for name in ("one", "other"):
                until(partial(ended_doubt, fleet, name), what="the end of its doubt")
        assert traffic.answered() == 0
        assert "suspect" not in fleet.log("one") + fleet.log("other")


def ended_doubt(fleet: Fleet, name: str) -> bool:
    return "in doubt no more: it is no fault of this worker alone" in fleet.log(name)

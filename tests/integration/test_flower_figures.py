"""What the exporter reads from a real Flower, of a real worker's tasks."""

import base64
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from lowtide.autoscaling.export.flower import FlowerFigures, FlowerTally, read_flower
from lowtide.autoscaling.export.flower_pace import FlowerReader
from lowtide.autoscaling.signal.last_value import LastValue, SourceUnreadable
from lowtide.config import load_settings
from lowtide.tasks import RequestFailed, infer, infer_chunk
from lowtide.tasks.app import configure
from tests.fleet import Fleet
from tests.ports import steady_port
from tests.waiting import until

LOGIN = "me:hunter2"
DIGIT = base64.b64encode((Path(__file__).parents[2] / "examples/digits/images/0001.png").read_bytes()).decode()
REQUEST = {"model": "digits", "data": DIGIT}
WAIT_S = 60


@pytest.fixture
def url() -> str:
    return f"http://127.0.0.1:{steady_port()}"


@pytest.fixture
def fleet(redis_url: str, url: str, tmp_path: Path) -> Iterator[Fleet]:
    env = {
        "LOWTIDE_REDIS_URL": redis_url,
        "LOWTIDE_PROJECT": "none",
        "LOWTIDE_DEVICE": "cpu",
        "LOWTIDE_FLOWER_PORT": url.rpartition(":")[2],
        "LOWTIDE_FLOWER_BASIC_AUTH": json.dumps([LOGIN, "another:login"]),
    }
    running = Fleet(env, tmp_path)
    yield running
    running.stop()


@pytest.fixture
def app(redis_url: str) -> Celery:
    return configure(load_settings(redis_url=redis_url))


def start_flower(fleet: Fleet, url: str, *, workers: int) -> None:
    """Until it has heard of so many: it answers before it listens, and what it does not hear it never counts."""

    def ready() -> bool:
        now = figures(url)
        return now is not None and now.workers_online == workers

    fleet.start("flower", "flower")
    until(ready, what=f"a Flower with {workers} workers")


def figures(url: str) -> FlowerFigures | None:
    try:
        return read_flower(url, auth=LOGIN)
    except SourceUnreadable:
        return None


def tally(url: str) -> FlowerTally:
    """Of the one worker."""
    now = figures(url)
    return next(iter(now.tallies.values()), FlowerTally()) if now else FlowerTally()


def test_without_a_flower_there_are_no_figures(url: str) -> None:
    with pytest.raises(SourceUnreadable, match=f"{url}/metrics does not answer: .*refused"):
        read_flower(url, auth=LOGIN)


def test_a_flower_that_hears_of_nobody_says_zero_and_only_to_its_login(fleet: Fleet, url: str) -> None:
    start_flower(fleet, url, workers=0)

    assert read_flower(f"{url}/", auth=LOGIN) == FlowerFigures(workers_online=0, prefetch_s=0.0, tallies={})
    for wrong in ("", "me:hunter3", "me"):
        with pytest.raises(SourceUnreadable, match="answers 401: LOWTIDE_FLOWER_BASIC_AUTH is not") as refused:
            read_flower(url, auth=wrong)
        assert "hunter" not in str(refused.value)


def test_tasks_and_workers_are_counted_and_a_lost_flower_is_held(fleet: Fleet, url: str, app: Celery) -> None:
    fleet.start("worker", "worker")
    fleet.wait_ready(workers=1)
    start_flower(fleet, url, workers=1)
    source = LastValue("flower", FlowerReader(url, auth=LOGIN).read)
    began_s = time.monotonic()
    first = source.refresh()
    counted_from_s = time.monotonic()
    assert first is not None
    assert first.pace is None

    results = [infer.delay(REQUEST) for _ in range(20)]
    assert len(infer_chunk.delay([REQUEST] * 8).get(WAIT_S)) == 8
    with pytest.raises(RequestFailed):
        infer.delay({"model": "digits", "data": ""}).get(WAIT_S)
    for result in results:
        result.get(WAIT_S)
    until(lambda: tally(url).succeeded + tally(url).failed == 22, what="22 ended tasks")

    shortest_s = time.monotonic() - counted_from_s
    busy = source.refresh()
    longest_s = time.monotonic() - began_s
    assert busy is not None
    assert busy.pace is not None
    assert 21 / longest_s <= busy.pace.succeeded_per_s <= 21 / shortest_s
    assert 1 / longest_s <= busy.pace.failed_per_s <= 1 / shortest_s
    assert busy.pace.runtime_s is not None
    assert 0 < busy.pace.runtime_s < longest_s
    assert (tally(url).succeeded, tally(url).failed, tally(url).timed) == (21, 1, 21)

    fleet.kill("flower")
    assert source.refresh() is busy
    assert source.age_s > 0

    start_flower(fleet, url, workers=1)
    infer.delay(REQUEST).get(WAIT_S)
    until(lambda: tally(url).succeeded >= 1, what="a task after Flower's restart")
    anew = source.refresh()
    assert anew is not None
    assert anew.pace is not None
    assert 0 < anew.pace.succeeded_per_s < busy.pace.succeeded_per_s

    fleet.signal("worker", signal.SIGTERM)
    until(lambda: (now := figures(url)) and now.workers_online == 0, what="nobody online")

"""`docker compose up`, unedited: a request through every door, three workers of which one dies, and an orderly end."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from lowtide.local.stack import LOCAL_PROJECT
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from tests.fleet import LOWTIDE
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "examples/digits/images"
COMPOSE = ("docker", "compose", "--project-name=lowtide-test", f"--file={ROOT / 'compose.yaml'}")
HERE = {
    "LOWTIDE_PROJECT": LOCAL_PROJECT,
    "PUBSUB_EMULATOR_HOST": "127.0.0.1:8085",
    "LOWTIDE_REDIS_URL": "redis://127.0.0.1:6379/0",
}
"""With which this machine joins, by the ports that are published."""
KEYS = Keys("")
LOGIN = ("lowtide", "lowtide")
PATIENCE_S = 600.0
"""For what takes seconds: ends a hang, and measures nothing."""

pytestmark = [
    pytest.mark.skipif(
        "docker" not in os.environ.get("LOWTIDE_TEST_REQUIRE", "").split(","),
        reason="it builds images of 8 GB: `make test-compose` runs it",
    ),
    pytest.mark.timeout(3600),
]


def run(*command: str, given: str = "", **env: str) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def compose(*arguments: str) -> str:
    return run(*COMPOSE, *arguments)


def inside(service: str, *command: str) -> str:
    return compose("exec", "--no-TTY", service, *command)


def lowtide(*arguments: str, given: str = "") -> str:
    """From this machine."""
    return run(*LOWTIDE, *arguments, given=given, **HERE)


def containers(*services: str) -> list[str]:
    return compose("ps", "--all", "--quiet", *services).split()


def inspected(container: str, what: str) -> str:
    return run("docker", "inspect", "--format", f"{{{{ {what} }}}}", container).strip()


@pytest.fixture(scope="module", autouse=True)
def composed() -> Iterator[None]:
    """All services, healthy."""
    try:
        compose("up", "--build", "--detach", "--wait")
        yield
    finally:
        compose("down", "--volumes", "--remove-orphans")


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis.from_url(HERE["LOWTIDE_REDIS_URL"]) as client:
        yield client


def classified_in_the_bridges_container() -> dict[str, object]:
    """As compose.yaml's first lines do it."""
    compose("cp", str(IMAGES / "0001.png"), "bridge:/tmp")
    inside("bridge", "lowtide", "publish", "--model", "digits", "/tmp/0001.png")
    answer: dict[str, object] = json.loads(inside("bridge", "lowtide", "results", "--max", "1", "--json"))
    return answer


def test_a_request_that_is_published_in_the_bridges_container_is_answered_there() -> None:
    answer = classified_in_the_bridges_container()

    assert (answer["status"], answer["outputs"][0]["label"]) == ("ok", "2")


def test_a_python_program_of_this_machine_is_answered() -> None:
    content = "base64.b64encode(open(sys.argv[1], 'rb').read()).decode()"
    program = (
        "import base64, sys; from lowtide.tasks import infer; "
        f"print(infer.delay({{'model': 'digits', 'data': {content}}}).get(timeout=300))"
    )

    assert "'2'" in run(sys.executable, "-c", program, str(IMAGES / "0001.png"), **HERE)


def test_flower_shows_worker_and_task_to_those_who_log_in() -> None:
    flower = "http://127.0.0.1:5555"
    classified_in_the_bridges_container()

    def shown(path: str) -> Any:
        return requests.get(f"{flower}{path}", auth=LOGIN, timeout=30).json()

    assert requests.get(flower, timeout=30).status_code == 401
    assert requests.get(flower, auth=LOGIN, timeout=30).ok
    until(lambda: shown("/workers?json=1")["data"], within_s=PATIENCE_S, what="a worker")
    until(lambda: shown("/api/tasks"), within_s=PATIENCE_S, what="a task")


def test_the_signal_is_served_to_prometheus_and_read_back_from_cloud_monitoring() -> None:
    def figures() -> dict[str, str]:
        lines = requests.get("http://127.0.0.1:9090/metrics", timeout=30).text.splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line.startswith("lowtide_"))

    def read_back() -> bool:
        status = json.loads(inside("autoscale", "lowtide", "status", "--json"))
        return status["pubsub_undelivered"] is not None and not status["unreadable"]

    until(lambda: figures().get('lowtide_workers{fleet="default"}') == "1.0", within_s=PATIENCE_S, what="a worker")
    until(read_back, within_s=PATIENCE_S, what="what Pub/Sub holds")


def test_of_three_workers_one_is_killed_and_what_it_held_is_answered_by_the_others(
    redis: Redis, tmp_path: Path
) -> None:
    compose("up", "--detach", "--wait", "--scale", "worker=3")
    until(lambda: len(live(redis, KEYS, "worker")) == 3, within_s=PATIENCE_S, what="three workers")
    victim = containers("worker")[0]
    host = inspected(victim, ".Config.Hostname")
    [incarnation] = [name for name, status in live(redis, KEYS, "worker").items() if host in status["name"]]
    for copy in range(10):
        shutil.copytree(IMAGES, tmp_path / str(copy))
    published: set[str] = set()
    answered: set[str] = set()

    def stands_still_with_work() -> bool:
        """Stops its processes again and again while work comes, until it holds some at that moment."""
        caught = False
        with ThreadPoolExecutor() as pool:
            publishing = pool.submit(lowtide, "publish", "--json", "--model=digits", str(tmp_path))
            while not (caught or publishing.done()):
                run("docker", "exec", victim, "sh", "-c", "kill -STOP -1")
                caught = redis.hlen(KEYS.held(incarnation)) > 0
                if not caught:
                    run("docker", "exec", victim, "sh", "-c", "kill -CONT -1")
        published.update(json.loads(line)["message_id"] for line in publishing.result().splitlines())
        return caught

    def all_answered() -> bool:
        read = lowtide("results", "--json", "--timeout=5s")
        answered.update(json.loads(line)["message_id"] for line in read.splitlines())
        return answered >= published

    until(stands_still_with_work, within_s=PATIENCE_S, what="a worker that holds work")
    run("docker", "kill", victim)
    until(all_answered, within_s=PATIENCE_S, what=f"{len(published)} results")


def test_a_bridge_makes_its_topics_anew_when_what_stands_for_google_cloud_restarts() -> None:
    compose("restart", "cloud")

    compose("up", "--detach", "--wait")
    assert classified_in_the_bridges_container()["status"] == "ok"


def test_all_services_end_by_themselves_and_the_first_request_after_their_start_is_answered() -> None:
    compose("up", "--detach", "--wait", "--scale", "worker=1")

    compose("stop")

    codes = {inspected(container, ".Name"): inspected(container, ".State.ExitCode") for container in containers()}
    assert set(codes.values()) == {"0"}, codes
    compose("up", "--detach", "--wait")
    assert classified_in_the_bridges_container()["status"] == "ok"

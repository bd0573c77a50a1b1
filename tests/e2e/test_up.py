"""`lowtide up`, and the commands that it tells people to paste."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import eventually

ROOT = Path(__file__).resolve().parents[2]
LOWTIDE = [sys.executable, "-m", "lowtide.cli"]


@pytest.fixture(scope="module")
def up() -> Iterator[subprocess.Popen[str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "PUBSUB_"))}
    process = subprocess.Popen(
        [*LOWTIDE, "up"], cwd=ROOT, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def welcome(up: subprocess.Popen[str]) -> str:
    assert up.stdout is not None
    lines = []
    while not lines or "lowtide status" not in lines[-1]:
        line = up.stdout.readline()
        assert line, up.stderr and up.stderr.read()
        lines.append(line)
    return "".join(lines)


@pytest.fixture(scope="module")
def environment(welcome: str) -> dict[str, str]:
    """What the welcome says to export."""
    (exports,) = re.findall(r"^\s*export (.*)$", welcome, re.MULTILINE)
    return {**os.environ, **dict(pair.split("=", 1) for pair in shlex.split(exports))}


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_publish_command_and_the_results_command_can_be_pasted(welcome: str, environment: dict[str, str]) -> None:
    publish, results = re.findall(r"^\s*lowtide (publish .*|results .*)$", welcome, re.MULTILINE)
    said = run([*LOWTIDE, *publish.split()], environment)
    answer = run([*LOWTIDE, *results.split(), "--json"], environment)

    assert json.loads(answer)["message_id"] == said.split()[0]
    assert json.loads(answer)["outputs"][0]["label"] == "2"


def test_the_python_snippet_can_be_pasted(welcome: str, environment: dict[str, str]) -> None:
    snippet = "\n".join(line.strip() for line in welcome.splitlines() if "infer" in line)

    assert "'label': '2'" in run([sys.executable, "-c", snippet], environment)


def test_the_doctor_finds_a_healthy_system(environment: dict[str, str]) -> None:
    findings = [json.loads(line) for line in run([*LOWTIDE, "doctor", "--json"], environment).splitlines()]

    assert {finding["verdict"] for finding in findings} <= {"ok", "warning"}
    assert {finding["what"].split()[0] for finding in findings} >= {"Redis", "Pub/Sub", "Fleet", "Devices", "Models"}


def test_the_status_command_can_be_pasted(welcome: str, environment: dict[str, str]) -> None:
    (command,) = re.findall(r"lowtide (status .*)$", welcome, re.MULTILINE)

    def look() -> dict[str, Any]:
        return json.loads(run([*LOWTIDE, *command.replace("--watch", "--json").split()], environment))

    # Pub/Sub's own count follows an acknowledgement late.
    eventually(lambda: look()["pubsub_undelivered"] == 0, within_s=30, what="an empty subscription")
    said = look()
    assert (len(said["workers"]), len(said["bridges"]), said["requests_outstanding"]) == (1, 1, 0)
    assert said["recommendation"]["size"] == 1
    assert "1 were needed in the last 600 s" in said["recommendation"]["reason"]
    assert said["seconds_per_request"].keys() == {"digits"}


def test_ctrl_c_stops_everything_and_leaves_no_process(up: subprocess.Popen[str], welcome: str) -> None:
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(up.pid)], capture_output=True, text=True
    ).stdout.split()
    assert len(children) == 6, "Redis, Pub/Sub and Monitoring, bridge, exporter, worker, Flower"
    up.send_signal(signal.SIGINT)

    assert up.wait(60) == 0
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_the_doctor_names_what_is_wrong_and_what_to_do(environment: dict[str, str], up: subprocess.Popen[str]) -> None:
    assert up.poll() is not None
    done = subprocess.run([*LOWTIDE, "doctor"], env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "Redis: not reachable" in done.stdout
    assert "LOWTIDE_REDIS_URL" in done.stdout

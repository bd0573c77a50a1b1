"""`lowtide up`, the commands that it tells people to paste, and `lowtide classify` beside it."""

import base64
import csv
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import LOWTIDE, READY_S
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
CLASSIFY = [*LOWTIDE, "classify"]
BOOT_S = 8
"""How long the first request waits at least. `status` remembers samples of Pub/Sub's count that are 4 s apart."""
RUN_S = 180.0
"""For a command: the first request waits for the signal, 15 s, and for a worker's imports on a busy machine."""

pytestmark = pytest.mark.timeout(RUN_S + READY_S)


@pytest.fixture(scope="module")
def up() -> Iterator[subprocess.Popen[str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "PUBSUB_"))}
    process = subprocess.Popen(
        [*LOWTIDE, "up", f"--boot-delay={BOOT_S}s"],
        cwd=ROOT,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=RUN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def classify(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLASSIFY, *arguments], env=env, capture_output=True, text=True, timeout=RUN_S)


def test_the_publish_command_and_the_results_command_can_be_pasted(welcome: str, environment: dict[str, str]) -> None:
    publish, results = re.findall(r"^\s*lowtide (publish .*|results .*)$", welcome, re.MULTILINE)
    said = run([*LOWTIDE, *publish.split()], environment)
    answer = run([*LOWTIDE, *results.split(), "--json"], environment)

    assert "fleet:" not in welcome, "nothing waits, so nobody works"
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

    said: dict[str, Any] = {}

    def idle() -> bool:
        said.update(json.loads(run([*LOWTIDE, *command.replace("--watch", "--json").split()], environment)))
        # Pub/Sub's own count follows an acknowledgement late, and a worker tells how fast it is every few seconds.
        there = (said["pubsub_undelivered"], len(said["workers"]), len(said["bridges"]), said["requests_outstanding"])
        # On a busy machine the group's memory, in Cloud Monitoring, may not be read in time for one look.
        remembers = "without the group's memory" not in said["recommendation"]["reason"]
        return there == (0, 1, 1, 0) and said["seconds_per_request"].keys() == {"digits"} and remembers

    until(idle, what="an idle worker that told its rate, a bridge, and nothing that waits")
    assert said["recommendation"]["size"] == 1, said["recommendation"]
    assert "1 were needed in the last 600 s" in said["recommendation"]["reason"]


def test_in_a_pipe_progress_is_plain_lines_and_csv_holds_filename_and_prediction(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    output = tmp_path / "results.csv"
    first = [str(path) for path in sorted((DIGITS / "images").iterdir())[:20]]
    run = classify(*first, "--model=digits", f"--output={output}", env=environment)

    assert run.returncode == 0, run.stderr
    assert "classify: 20 of 20" in run.stderr
    assert "\x1b" not in run.stderr
    truth = {row["file"]: row["label"] for row in csv.DictReader((DIGITS / "labels.csv").read_text().splitlines())}
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert {Path(row["filename"]).name: row["prediction"] for row in rows} == {
        Path(name).name: truth[Path(name).name] for name in first
    }


def test_each_odd_source_fails_alone_and_resuming_runs_only_what_is_left(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    photos, output = tmp_path / "photos", tmp_path / "photos" / "results.csv"
    two = (DIGITS / "images" / "0001.png").read_bytes()
    zero = base64.b64encode((DIGITS / "images" / "0002.png").read_bytes()).decode()
    poses_as_b = {"request_id": f"{photos}/b.png", "model": "digits", "data": zero}
    deep = "/".join(["x" * 220] * 5)
    files = {
        "b.png": two,
        "caf\udce9/é\u2028\x85.png": two,
        "new\nline,\x1b[31m.png": two,
        f"{deep}/long.png": two,
        "a.json": json.dumps(poses_as_b).encode(),
        "uri.png": json.dumps({"model": "digits", "uri": (DIGITS / "images" / "0002.png").as_uri()}).encode(),
        "empty.png": b"",
        "late.png": two[:104],
    }
    for name, content in files.items():
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(content)
    os.mkfifo(photos / "pipe")
    listed = tmp_path / "list.txt"
    listed.write_bytes(
        b"\xef\xbb\xbfgs://b/nix\xe9.png\r\nhttps://example.com/" + b"y" * 2000 + b".png\r\nnowhere.png\r\n"
    )
    command = [str(photos), "--from-file", str(listed), "--model=digits", f"--output={output}"]

    run = classify(*command, env=environment)
    (photos / "late.png").write_bytes(two)
    again = classify(*command, "--resume", "--retry", "truncated_image", env=environment)

    assert (run.returncode, again.returncode) == (1, 1), run.stderr + again.stderr
    assert "12 results, 8 failed" in run.stdout
    assert "1 results, 7 failed, 11 were there already" in again.stdout
    with output.open(newline="") as file:
        rows = {row["filename"].removeprefix(f"{photos}/")[:40]: row for row in csv.DictReader(file)}
    assert {name: row["prediction"] for name, row in rows.items() if row["status"] == "ok"} == {
        "b.png": "2",
        "caf\\xe9/é\u2028\x85.png": "2",
        "new\nline,\x1b[31m.png": "2",
        deep[:40]: "2",
        "late.png": "2",
    }
    assert {name: row["error"].partition(":")[0] for name, row in rows.items() if row["status"] != "ok"} == {
        "a.json": "not_an_image",
        "uri.png": "not_an_image",
        "empty.png": "no_content",
        "pipe": "no_source",
        "gs://b/nix\\xe9.png": "no_source",
        f"https://example.com/{'y' * 20}": "forbidden",
        "nowhere.png": "no_source",
    }


def test_on_a_terminal_progress_is_a_bar(tmp_path: Path, environment: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    command = [*CLASSIFY, str(DIGITS / "images" / "0001.png"), "--model=digits", f"--output={tmp_path}/r.jsonl"]
    env = {**environment, "TERM": "xterm"}
    drawn = b""
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=theirs) as run:
        os.close(theirs)
        with suppress(OSError):  # Linux' word for a terminal that nobody writes to any more
            while piece := os.read(ours, 100_000):
                drawn += piece
    os.close(ours)
    shown = re.sub(r"\x1b\[[\d;]*m", "", drawn.decode())

    assert run.returncode == 0, shown
    assert "classify ━━" in shown
    assert "1/1" in shown


def test_ctrl_c_stops_everything_and_leaves_no_process(up: subprocess.Popen[str], welcome: str) -> None:
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(up.pid)], capture_output=True, text=True
    ).stdout.split()
    assert len(children) == 6, "Redis, Pub/Sub and Monitoring, bridge, exporter, worker, Flower"
    up.send_signal(signal.SIGINT)
    said, _ = up.communicate(timeout=RUN_S)

    assert up.returncode == 0
    assert re.findall(r"fleet: (\d+) running, (\d+) booting, wanted (\d):", said) == [("0", "1", "1"), ("1", "0", "1")]
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []

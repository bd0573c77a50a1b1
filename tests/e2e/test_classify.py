"""`lowtide classify` on a system of its own, as a person runs it."""

import base64
import csv
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fleet import eventually

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
CLASSIFY = [sys.executable, "-m", "lowtide.cli", "classify"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing configured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "PUBSUB_"))}
    return {**kept, "TMPDIR": str(tmp_path)}


def classify(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLASSIFY, *arguments], env=env, capture_output=True, text=True, timeout=110)


def photographs(folder: Path, count: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(3)
    for index in range(count):
        pixels = Image.fromarray(random.integers(0, 255, (90, 120, 3), dtype=np.uint8))
        pixels.save(folder / f"{index}.{'jpg' if index % 2 else 'png'}")


@pytest.mark.parametrize("model", ["mobilenet_v2", "resnet101"])
def test_photographs_in_jpg_and_png_get_five_labels_each(model: str, tmp_path: Path, environment) -> None:
    photographs(tmp_path / "photos", 6)
    output = tmp_path / "results.jsonl"
    run = classify(
        str(tmp_path / "photos"), f"--model={model}", "--weights=random", f"--output={output}", env=environment
    )

    assert run.returncode == 0, run.stderr
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert sorted(result["request_id"] for result in results) == sorted(map(str, (tmp_path / "photos").iterdir()))
    for result in results:
        scores = [each["score"] for each in result["outputs"]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert result["model_version"].startswith("random")


def test_in_a_pipe_progress_is_plain_lines_and_csv_holds_filename_and_prediction(tmp_path: Path, environment) -> None:
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


def test_each_odd_source_fails_alone_and_resuming_runs_only_what_is_left(tmp_path: Path, environment) -> None:
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


def test_ctrl_c_leaves_what_is_there_and_resuming_goes_on(tmp_path: Path, environment) -> None:
    output = tmp_path / "results.jsonl"
    command = [*CLASSIFY, str(DIGITS / "images"), "https://192.0.2.1/a.png", "--model=digits", f"--output={output}"]
    with subprocess.Popen(
        command,
        env={**environment, "LOWTIDE_HTTPS_HOSTS": "192.0.2.1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        eventually(lambda: output.exists() and output.read_bytes().count(b"\n"), within_s=60, what="an answer")
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        _, said = run.communicate(timeout=40)

    assert run.returncode == 130, said
    assert f"have a row in {output}: --resume goes on" in said
    assert "Traceback" not in said


def test_on_a_terminal_progress_is_a_bar(tmp_path: Path, environment) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.run(
        [*CLASSIFY, str(DIGITS / "images" / "0001.png"), "--model=digits", f"--output={tmp_path}/r.jsonl"],
        env={**environment, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=110,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)

    assert run.returncode == 0, shown
    assert "[####" in shown
    assert "1/1" in shown


def test_a_model_that_does_not_exist_is_said_to_be_unknown(tmp_path: Path, environment) -> None:
    run = classify(
        str(DIGITS / "images" / "0001.png"), "--model=resnet1O1", f"--output={tmp_path}/r.jsonl", env=environment
    )

    assert run.returncode == 1
    assert "resnet101" in run.stderr


def test_the_demo_recognises_the_held_out_digits_and_writes_every_result_once(tmp_path: Path, environment) -> None:
    run = subprocess.run(
        [sys.executable, DIGITS / "demo.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110
    )

    assert run.returncode == 0, run.stderr
    accuracy = float(run.stdout.partition("Accuracy: ")[2].partition("%")[0])
    assert accuracy >= 97
    ids = [json.loads(line)["request_id"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 360

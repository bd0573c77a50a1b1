"""`lowtide classify` on a system of its own, as a person runs it."""

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    again = classify(*first, "nowhere.png", "--model=digits", f"--output={output}", env=environment)

    assert run.returncode == 0, run.stderr
    assert "classify: 20 of 20" in run.stderr
    assert "\x1b" not in run.stderr
    truth = {row["file"]: row["label"] for row in csv.DictReader((DIGITS / "labels.csv").read_text().splitlines())}
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert {Path(row["filename"]).name: row["prediction"] for row in rows} == {
        Path(name).name: truth[Path(name).name] for name in first
    }
    assert again.returncode == 1
    assert "nowhere.png: no such file" in again.stderr


def test_resuming_runs_only_what_is_left(tmp_path: Path, environment) -> None:
    output = tmp_path / "results.jsonl"
    images = sorted((DIGITS / "images").iterdir())
    classify(*map(str, images[:5]), "--model=digits", f"--output={output}", env=environment)
    run = classify(*map(str, images[:8]), "--model=digits", f"--output={output}", "--resume", "--json", env=environment)

    assert json.loads(run.stdout) | {"per_second": 0} == {
        "results": 3,
        "failed": 0,
        "skipped": 5,
        "per_second": 0,
        "output": str(output),
    }
    assert len({json.loads(line)["request_id"] for line in output.read_text().splitlines()}) == 8


def test_a_file_that_is_no_picture_fails_alone_and_the_exit_code_tells(tmp_path: Path, environment) -> None:
    (tmp_path / "text.jpg").write_text("just text")
    output = tmp_path / "results.csv"
    images = [str(DIGITS / "images" / "0001.png"), str(tmp_path / "text.jpg")]
    run = classify(*images, "--model=digits", f"--output={output}", env=environment)

    assert run.returncode == 1
    assert "2 results, 1 failed" in run.stdout
    assert dict(list(csv.reader(output.read_text().splitlines()))[1:]) == {images[0]: "2", images[1]: ""}


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

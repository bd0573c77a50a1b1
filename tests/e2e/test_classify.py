"""`lowtide classify` with nothing configured: on a system of its own. On one that is there: test_up.py."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.waiting import until

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
CLASSIFY = [sys.executable, "-m", "lowtide.cli", "classify"]
RUN_S = 240.0
"""A whole run, whose worker imports torch on a busy machine."""

pytestmark = pytest.mark.timeout(2 * RUN_S + 60)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing configured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "PUBSUB_"))}
    return {**kept, "TMPDIR": str(tmp_path)}


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """What a shell has started in the background ignores Ctrl-C, and so do those that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def photographs(folder: Path, count: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(3)
    for index in range(count):
        pixels = Image.fromarray(random.integers(0, 255, (90, 120, 3), dtype=np.uint8))
        pixels.save(folder / f"{index}.{'jpg' if index % 2 else 'png'}")


def test_photographs_in_jpg_and_png_get_five_labels_each_and_ctrl_c_leaves_what_is_there(
    tmp_path: Path, environment: dict[str, str], hears_ctrl_c: None
) -> None:
    photographs(tmp_path / "photos", 6)
    output = tmp_path / "results.jsonl"
    nobody = "https://localhost:9/a.png"  # unavailable, and so tried again for two minutes
    command = [
        *CLASSIFY,
        tmp_path / "photos",
        nobody,
        "--model=squeezenet1_1",
        "--weights=random",
        f"--output={output}",
    ]
    allowed = {"LOWTIDE_HTTPS_HOSTS": "localhost", "LOWTIDE_HTTPS_PRIVATE_NETWORKS": "127.0.0.0/8,::1/128"}
    with subprocess.Popen(
        command, env={**environment, **allowed}, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        try:
            until(
                lambda: run.poll() is not None or (output.exists() and output.read_bytes().count(b"\n") == 6),
                within_s=RUN_S,
                what="an answer for each photograph",
            )
            if run.returncode is None:
                os.killpg(run.pid, signal.SIGINT)  # as a terminal does
            _, said = run.communicate(timeout=RUN_S)
        finally:
            run.kill()

    assert run.returncode == 130, said
    assert f"Stopped: 6 of 7 have a row in {output}: --resume goes on" in said
    assert "Traceback" not in said
    results = [json.loads(line) for line in output.read_text().splitlines()]
    assert sorted(result["request_id"] for result in results) == sorted(map(str, (tmp_path / "photos").iterdir()))
    for result in results:
        scores = [each["score"] for each in result["outputs"]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert result["model_version"].startswith("random")


def test_a_model_that_does_not_exist_is_said_to_be_unknown(tmp_path: Path, environment: dict[str, str]) -> None:
    image, output = DIGITS / "images" / "0001.png", tmp_path / "r.jsonl"
    command = [*CLASSIFY, image, "--model=resnet1O1", f"--output={output}"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_S)

    assert run.returncode == 1
    assert "resnet101" in run.stderr


def test_the_demo_recognises_photographs_and_held_out_digits_and_writes_every_result_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, DIGITS.parent / "demo.py"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_S)

    assert run.returncode == 0, run.stderr
    assert re.search(r"^coffee +espresso +0\.9\d$", run.stdout, re.MULTILINE)
    assert re.search(r"^chelsea +.* cat +0\.\d\d$", run.stdout, re.MULTILINE)
    accuracy = float(run.stdout.partition("Accuracy: ")[2].partition("%")[0])
    assert accuracy >= 97
    for name, count in (("photographs", 7), ("digits", 360)):
        rows = (tmp_path / f"demo-{name}.jsonl").read_text().splitlines()
        assert len(rows) == len({json.loads(row)["request_id"] for row in rows}) == count
        assert (tmp_path / f"demo-{name}.html").read_text().count("data:image/webp") == count
    page = (tmp_path / "demo-photographs.html").read_text()
    assert re.search(r"coffee\.png.*espresso", page)
    assert re.search(r"chelsea\.png.* cat", page)

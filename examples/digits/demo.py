"""`make demo`: run the held-out digits through the whole system on this machine, and compare with the truth.

Writes `results.jsonl` into the current folder: one line per image.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = Path("results.jsonl")
WANTED_ACCURACY = 0.97


def main() -> int:
    """Classify, count, print; the exit code."""
    images = HERE / "images"
    classify = [sys.executable, "-m", "lowtide.cli", "classify", str(images), "--model", "digits"]
    # Not on a fleet that the terminal may name.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LOWTIDE_", "PUBSUB_"))}
    if code := subprocess.run([*classify, f"--output={RESULTS}", "--overwrite"], env=env).returncode:
        return code
    truth = {row["file"]: row["label"] for row in csv.DictReader((HERE / "labels.csv").open())}
    results = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    right = sum(
        bool(result["outputs"]) and result["outputs"][0]["label"] == truth[Path(result["request_id"]).name]
        for result in results
    )
    print(f"Accuracy: {right / len(truth):.1%} ({right} of {len(truth)} held-out digits)")
    print(f"Results:  {RESULTS.resolve()}")
    return 0 if right / len(truth) >= WANTED_ACCURACY and len(results) == len(truth) else 1


if __name__ == "__main__":
    sys.exit(main())

"""`make demo`: photographs and handwritten digits through the whole system on this machine, and how many were right.

Writes `demo-photographs.jsonl` and `demo-digits.jsonl` into the current folder, one line per picture, and a page
of each to look at, in place of those of an earlier run.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

try:
    from lowtide.config import load_settings
    from lowtide.local.stack import Stack
    from lowtide.tasks.errors import LowtideError
except KeyboardInterrupt:  # it takes seconds
    sys.exit(130)

EXAMPLES = Path(__file__).resolve().parent
PHOTOGRAPHS = {
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}
"""Package → the colour photographs in it, and their folder. Left out are those taken through a telescope, through a
microscope and into an eye: ImageNet has no categories for them.
"""

CATS = frozenset({"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"})
WANTED = {"coffee": frozenset({"espresso"}), "chelsea": CATS}
"""The photographs of one thing that ImageNet has a category for: what they may be taken for."""
WANTED_ACCURACY = 0.97
"""Of the digits."""

MODELS = ("efficientnet_lite0=efficientnet_lite0:EfficientNetLite0", "digits")
FLEETS = ("LOWTIDE_", "PUBSUB_")
"""How the names of the variables begin by which a terminal names its fleet."""
STOPPED = 130

Result = dict[str, Any]


def main() -> int:
    """Classify, compare, print; the exit code."""
    forget_fleets()
    import_from(EXAMPLES / "photographs")
    print("Starting Redis, Pub/Sub, a bridge and a worker on this machine", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="lowtide-") as folder,
        Stack(load_settings(models=MODELS), folder=Path(folder), alone=True) as stack,
    ):
        stack.wait_ready()
        right = [show_photographs(stack.environment), show_digits(stack.environment)]
    return 0 if all(right) else 1


def forget_fleets() -> None:
    """Nothing of the demo goes to a fleet that the terminal may name."""
    for name in [name for name in os.environ if name.startswith(FLEETS)]:
        del os.environ[name]


def import_from(folder: Path) -> None:
    """Let processes find modules there, from any current folder: the photographs' model is no installed package."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.getenv("PYTHONPATH", "")]))


def show_photographs(system: Mapping[str, str]) -> bool:
    """Print the best answer for each; True if those of WANTED are right."""
    results = classify(photographs(), "efficientnet_lite0", Path("demo-photographs.jsonl"), system)
    best = {Path(result["request_id"]).stem: result["outputs"][0] for result in results}
    print(f"\n{table(best)}\n", flush=True)
    wrong = sorted(name for name, wanted in WANTED.items() if best[name]["label"] not in wanted)
    for name in wrong:
        print(f"{name} is a photograph of {' or '.join(sorted(WANTED[name]))}", file=sys.stderr)
    return not wrong


def show_digits(system: Mapping[str, str]) -> bool:
    """Print how many are recognised; True if that is enough."""
    with (EXAMPLES / "digits" / "labels.csv").open(newline="") as labels:
        truth = {row["file"]: row["label"] for row in csv.DictReader(labels)}
    results = classify([EXAMPLES / "digits" / "images"], "digits", Path("demo-digits.jsonl"), system)
    right = sum(result["outputs"][0]["label"] == truth[Path(result["request_id"]).name] for result in results)
    print(f"Accuracy: {right / len(truth):.1%} ({right} of {len(truth)} held-out digits)")
    return right / len(truth) >= WANTED_ACCURACY and len(results) == len(truth)


def photographs() -> list[Path]:
    """Those of PHOTOGRAPHS. Raises LowtideError when a package is not installed."""
    return [folder_of(package) / folder / name for package, (folder, names) in PHOTOGRAPHS.items() for name in names]


def folder_of(package: str) -> Path:
    """Where it is installed: found without importing it, which would take a second. Raises LowtideError."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise LowtideError(f"the demo's photographs are in the package {package}, which is not installed: make demo")
    return Path(found.origin).parent


def classify(paths: Sequence[Path], model: str, output: Path, system: Mapping[str, str]) -> list[Result]:
    """Run `lowtide classify` on the system of these variables.

    Unless every picture has an answer, the demo ends with the exit code of that run, which has said why.
    """
    outputs = [f"--output={output}", "--overwrite", f"--report={output.with_suffix('.html')}"]
    arguments = [*map(str, paths), f"--model={model}", *outputs]
    command = [sys.executable, "-m", "lowtide.cli", "classify", *arguments]
    if code := subprocess.run(command, env={**os.environ, **system}).returncode:
        sys.exit(code)
    return [json.loads(line) for line in output.read_text().splitlines()]


def table(best: Mapping[str, Mapping[str, Any]]) -> str:
    """Photograph → its best answer, in columns.

    >>> print(table({"coffee": {"label": "espresso", "score": 0.951}}))
    Photograph  Answer    Score
    coffee      espresso   0.95
    """
    rows = [(name, answer["label"], f"{answer['score']:.2f}") for name, answer in sorted(best.items())]
    lines = [("Photograph", "Answer", "Score"), *rows]
    name, answer, score = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(f"{line[0]:{name}}  {line[1]:{answer}}  {line[2]:>{score}}" for line in lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LowtideError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(STOPPED)

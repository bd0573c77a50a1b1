import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lowtide.cli.report import plots


@pytest.mark.parametrize("values_ms", [[5.0], [0.0, 0.0], [0.02, 86_400_000.0], [1.0, 2.0, 3.0, 3.0]])
def test_any_times_can_be_drawn(values_ms: list[float]) -> None:
    svg = plots.times(values_ms)

    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert re.search(r">\s*[\d.]+ (ms|s|min|h)\s*<", svg), "no value is written at the axis"


@pytest.mark.parametrize("arrived_s", [[0.0], [0.1, 0.2, 0.2], [3.0, 7200.0]])
def test_any_rate_can_be_drawn(arrived_s: list[float]) -> None:
    svg = plots.rate(arrived_s)

    assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_a_plot_takes_the_colours_of_its_page() -> None:
    svg = plots.times([1.0, 2.0, 30.0])

    assert "currentColor" in svg
    assert "var(--bar)" in svg
    assert not set(re.findall("#[0-9a-f]{6}", svg)) - {"#ffffff"}


def test_times_are_said_in_words() -> None:
    assert plots.summary([1.0] * 98 + [500.0, 1500.0]) == "half within 1 ms, 99 % within 500 ms"


def test_99_percent_of_few_are_all_of_them() -> None:
    assert plots.summary([10.0] * 6 + [500.0]) == "half within 10 ms, 99 % within 500 ms"


@pytest.mark.parametrize("low", [0.0091, 0.011, 0.4, 1.0, 1.05, 9.6, 9.99, 41.0, 214.0, 450.0, 1700.0])
@pytest.mark.parametrize("ratio", [1.21, 1.7, 2.8, 9.0, 40.0, 1e4, 1e9])
def test_what_stands_at_an_axis_of_times_can_be_read(low: float, ratio: float) -> None:
    found = plots.ticks(low, low * ratio)
    gaps = [math.log(b / a, ratio) for a, b in itertools.pairwise(found)]

    assert len(found) > 1
    assert all(low <= tick <= low * ratio for tick in found)
    assert min(gaps, default=1) > 1 / 8


def test_a_batch_of_few_is_no_rate_of_its_own() -> None:
    highest = re.findall(r"text.*?>(\d+)<", plots.rate([0.75] * 7), re.DOTALL)[-1]

    assert int(highest) <= 7 / 0.75 * 3


def test_a_matplotlibrc_of_the_users_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    code = "from lowtide.cli.report import plots; assert '<text' in plots.times([1.0, 2.0])"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_fonts_and_caches_are_nothing_to_tell_of() -> None:
    code = "import lowtide.cli.report.plots"
    nowhere = {**os.environ, "MPLCONFIGDIR": "/proc/nowhere"}
    run = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, check=True)
    assert run.stderr == b""


@pytest.mark.parametrize(
    ("value_ms", "said"),
    [
        (0.25, "0.25 ms"),
        (48.3, "48 ms"),
        (999.0, "999 ms"),
        (1240.0, "1.2 s"),
        (59_000.0, "59 s"),
        (90_000.0, "1.5 min"),
        (86_400_000.0, "24 h"),
    ],
)
def test_durations_are_said_as_people_do(value_ms: float, said: str) -> None:
    assert plots.duration(value_ms) == said

import re
from xml.etree import ElementTree

import pytest

from lowtide.cli.report import plots


@pytest.mark.parametrize("values_ms", [[5.0], [0.0, 0.0], [0.02, 86_400_000.0], [1.0, 2.0, 3.0, 3.0]])
def test_any_times_can_be_drawn(values_ms: list[float]) -> None:
    svg = plots.times(values_ms)

    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert re.search(r">\s*[\d.]+ (ms|s|min)\s*<", svg), "no value is written at the axis"


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
    assert plots.summary([1.0] * 98 + [500.0, 1500.0]) == "half within 1 ms, 99 % within 510 ms"


@pytest.mark.parametrize(
    ("value_ms", "said"),
    [
        (0.25, "0.25 ms"),
        (48.3, "48 ms"),
        (999.0, "999 ms"),
        (1240.0, "1.2 s"),
        (59_000.0, "59 s"),
        (90_000.0, "1.5 min"),
    ],
)
def test_durations_are_said_as_people_do(value_ms: float, said: str) -> None:
    assert plots.duration(value_ms) == said

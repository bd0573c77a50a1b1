"""Plots, as SVG for a page: text takes the page's font, and colours follow its light or dark."""

import io
import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

SIZE_IN = (4.6, 2.2)
"""Width and height; matplotlib's inch is 72 units of an SVG."""
BINS_MAX = 40
LEAST_MS = 0.01
"""What took no time has a place on a logarithmic axis, too."""
TICKS_MAX = 5
"""So many durations can be read beside one another."""
ROUND = ((*range(1, 10),), (1, 2, 5), (1,))
"""First digits of what stands at a logarithmic axis, the more the shorter it is."""
LESS_ROUND = (*(tenths / 10 for tenths in range(10, 100)),)
"""Of an axis that is so short that less than two of the above are on it."""
UNITS_MS = {"h": 3.6e6, "min": 6e4, "s": 1e3, "ms": 1.0}
INK, BAR = "#010203", "#040506"
"""Stand for colours of the page until the SVG is written."""
COLOURS = {INK: "currentColor", BAR: "var(--bar)"}

# A matplotlibrc, which may want LaTeX, is for its owner's own plots.
matplotlib.rcdefaults()
matplotlib.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif"})


def rate(arrived_s: Sequence[float]) -> str:
    """Results a second over time: `arrived_s` are seconds from the first request's publication."""
    end_s = max(max(arrived_s), 1e-3)
    # As many as the square root says: in narrower ones each batch that comes would be a rate of its own.
    bins = min(BINS_MAX, math.ceil(math.sqrt(len(arrived_s))))
    counts, edges = np.histogram(arrived_s, bins=bins, range=(0, end_s))
    figure, axes = _axes("seconds since the first was published", "a second")
    axes.stairs(counts / (edges[1] - edges[0]), edges, fill=True, color=BAR)
    axes.set_xlim(0, end_s)
    return _svg(figure)


def times(values_ms: Sequence[float]) -> str:
    """How many took how long, in bins of equal ratio."""
    values = np.maximum(np.asarray(values_ms), LEAST_MS)
    low, high = float(values.min()) / 1.1, float(values.max()) * 1.1
    counts, edges = np.histogram(values, bins=np.geomspace(low, high, BINS_MAX + 1))
    figure, axes = _axes("", "images")
    axes.set_xscale("log")
    axes.stairs(counts, edges, fill=True, color=BAR)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return _svg(figure)


def ticks(low: float, high: float) -> list[float]:
    """Round values between the two, of which the larger is larger by a fifth: two to as many as can be read."""
    found = next((found for digits in ROUND if len(found := _round(low, high, digits)) <= TICKS_MAX), None)
    if found is None:
        powers = _round(low, high, ROUND[-1])
        return powers[:: math.ceil(len(powers) / TICKS_MAX)]
    if len(found) > 1:
        return found
    less_round = _round(low, high, LESS_ROUND)
    return [less_round[0], less_round[-1]]


def _round(low: float, high: float, digits: Sequence[float]) -> list[float]:
    decades = [10.0**exponent for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)))]
    return [digit * decade for decade in decades for digit in digits if low <= digit * decade <= high]


def summary(values_ms: Sequence[float]) -> str:
    """A histogram in words: of the values, since none between two of them has 99 % below it."""
    half, most = np.percentile(values_ms, (50, 99), method="inverted_cdf")
    return f"half within {duration(half)}, 99 % within {duration(most)}"


def duration(value_ms: float) -> str:
    """As a person says it.

    >>> duration(0.25), duration(48.3), duration(1240), duration(90_000)
    ('0.25 ms', '48 ms', '1.2 s', '1.5 min')
    """
    unit = next((unit for unit, least_ms in UNITS_MS.items() if value_ms >= least_ms), "ms")
    value = value_ms / UNITS_MS[unit]
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def _axes(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    return figure, axes


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    svg = written.getvalue()
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg[svg.index("<svg") :]

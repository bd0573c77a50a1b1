"""Plots, as SVG for a page: text takes the page's font, and colours follow its light or dark."""

import io
import logging
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

SIZE_IN = (4.6, 2.2)
"""Width and height; matplotlib's inch is 72 units of an SVG."""
BINS = 40
LEAST_MS = 0.01
"""What took no time has a place on a logarithmic axis, too."""
MANY_DECADES = 300
"""Of the largest to the smallest: from here on an axis is labelled at powers of ten alone."""
INK, BAR = "#010203", "#040506"
"""Stand for colours of the page until the SVG is written."""
COLOURS = {INK: "currentColor", BAR: "var(--bar)"}

# It tells of fonts and caches that it makes.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


def rate(arrived_s: Sequence[float]) -> str:
    """Results a second over time: `arrived_s` are seconds from the first request's publication."""
    end_s = max(max(arrived_s), 1e-3)
    counts, edges = np.histogram(arrived_s, bins=BINS, range=(0, end_s))
    figure, axes = _axes("seconds since the first was published", "a second")
    axes.stairs(counts / (edges[1] - edges[0]), edges, fill=True, color=BAR)
    axes.set_xlim(0, end_s)
    return _svg(figure)


def times(values_ms: Sequence[float]) -> str:
    """How many took how long, in bins of equal ratio."""
    values = np.maximum(np.asarray(values_ms), LEAST_MS)
    low, high = float(values.min()) / 1.1, float(values.max()) * 1.1
    counts, edges = np.histogram(values, bins=np.geomspace(low, high, BINS + 1))
    figure, axes = _axes("", "images")
    axes.set_xscale("log")
    axes.stairs(counts, edges, fill=True, color=BAR)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if high / low > MANY_DECADES else (1, 2, 5), numticks=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return _svg(figure)


def summary(values_ms: Sequence[float]) -> str:
    """A histogram in words."""
    half, most = np.percentile(values_ms, (50, 99))
    return f"half within {duration(half)}, 99 % within {duration(most)}"


def duration(value_ms: float) -> str:
    """As a person says it.

    >>> duration(0.25), duration(48.3), duration(1240), duration(90_000)
    ('0.25 ms', '48 ms', '1.2 s', '1.5 min')
    """
    value, unit = (value_ms, "ms") if value_ms < 1e3 else (value_ms / 1e3, "s")
    if unit == "s" and value >= 60:
        value, unit = value / 60, "min"
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
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    svg = written.getvalue()
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg[svg.index("<svg") :]

"""The dashboard shows what the exporter writes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lowtide.config.metrics import FLEET, METRICS

ROOT = Path(__file__).resolve().parents[2]
BY_TYPE = {metric.type: metric for metric in METRICS}


def filters() -> Iterator[dict[str, Any]]:
    dashboard = json.loads((ROOT / "deploy" / "dashboard.json").read_text())
    for tile in dashboard["mosaicLayout"]["tiles"]:
        for shown in tile["widget"]["xyChart"]["dataSets"]:
            yield shown["timeSeriesQuery"]["timeSeriesFilter"]


def test_every_chart_names_a_metric_that_is_written_and_every_metric_has_a_chart() -> None:
    named = [re.findall(r'metric.type="([^"]+)"', shown["filter"]) for shown in filters()]
    assert sorted(name for names in named for name in names) == sorted(BY_TYPE)
    assert all(shown["filter"].endswith(' resource.type="global"') for shown in filters())


def test_a_chart_groups_by_labels_that_its_metric_has() -> None:
    for shown in filters():
        [metric_type] = re.findall(r'metric.type="([^"]+)"', shown["filter"])
        labels = {field.removeprefix("metric.label.") for field in shown["aggregation"]["groupByFields"]}
        assert FLEET in labels
        assert labels <= {FLEET, *BY_TYPE[metric_type].labels}


def test_tiles_do_not_overlap_and_fit() -> None:
    layout = json.loads((ROOT / "deploy" / "dashboard.json").read_text())["mosaicLayout"]
    cells = [
        (x, y)
        for tile in layout["tiles"]
        for x in range(tile.get("xPos", 0), tile.get("xPos", 0) + tile["width"])
        for y in range(tile.get("yPos", 0), tile.get("yPos", 0) + tile["height"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < layout["columns"]

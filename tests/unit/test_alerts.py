"""The alerts are policies of Cloud Monitoring, on what the exporter writes."""

import re
from pathlib import Path

import pytest
from google.cloud.monitoring_v3.types import AlertPolicy

from lowtide.config.metrics import FLEET, METRICS

ALERTS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "alerts").glob("*.json"))
BY_TYPE = {metric.type: metric for metric in METRICS}


@pytest.mark.parametrize("file", ALERTS, ids=lambda file: file.stem)
def test_an_alert_names_a_metric_that_is_written_and_groups_by_its_labels(file: Path) -> None:
    policy = AlertPolicy.from_json(file.read_text())  # refuses fields that no policy has

    assert policy.documentation.content
    for condition in policy.conditions:
        watched = condition.condition_absent if condition.condition_absent.filter else condition.condition_threshold
        [metric_type] = re.findall(r'metric.type="([^"]+)"', watched.filter)
        assert watched.filter.endswith(' AND resource.type="global"')
        [aggregation] = watched.aggregations
        labels = {field.removeprefix("metric.label.") for field in aggregation.group_by_fields}
        assert {FLEET} <= labels <= {FLEET, *BY_TYPE[metric_type].labels}


def test_there_is_an_alert_for_a_signal_that_is_missing_for_one_that_is_held_and_for_a_bridge() -> None:
    assert [file.stem for file in ALERTS] == ["bridge-missing", "signal-missing", "source-unreadable"]

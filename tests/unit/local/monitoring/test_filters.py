"""The filters of instance groups."""

import pytest

from lowtide.local.errors import InvalidArgument
from lowtide.local.monitoring.filters import Filter, parse


def test_a_filter_of_an_instance_group_is_understood_in_either_spelling_of_labels():
    wanted = Filter(metric_type="custom.googleapis.com/a", resource_type="global", metric_labels={"fleet": "default"})
    for labels in ("label", "labels"):
        text = (
            f'metric.type = "custom.googleapis.com/a" AND metric.{labels}.fleet="default" AND resource.type = "global"'
        )
        assert parse(text) == wanted


def test_labels_of_the_resource_are_kept_apart_from_those_of_the_metric():
    found = parse('metric.type="a" AND metric.labels.x="1" AND resource.labels.x="2"')
    assert (found.metric_labels, found.resource_labels) == ({"x": "1"}, {"x": "2"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        'resource.type="global"',
        'metric.type="a" OR metric.type="b"',
        'metric.type="a" AND metric.type="b"',
        'metric.type!="a"',
        "metric.type='a'",
        'metric.type=starts_with("a")',
        'metric.type="a" AND',
        'metric.type="a" AND metadata.user_labels.x="1"',
        'metric.type="a" resource.type="global"',
    ],
)
def test_any_other_grammar_is_refused(text):
    with pytest.raises(InvalidArgument, match="Invalid filter"):
        parse(text)

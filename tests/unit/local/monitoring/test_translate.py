"""Pages, and what of the wire the local Cloud Monitoring refuses to understand."""

import pytest
from google.api import metric_pb2
from google.cloud.monitoring_v3 import types
from hypothesis import given
from hypothesis import strategies as st

from lowtide.local.errors import InvalidArgument, PartlyWritten, Unsupported
from lowtide.local.monitoring.series import Identity, Point, TimeSeries
from lowtide.local.monitoring.translate import (
    POINTS_PER_PAGE,
    descriptor_from,
    page,
    series_page,
    status_to,
    write_from,
)

TYPE = "custom.googleapis.com/x"


def sent(**changes):
    fields = {
        "metric": {"type": TYPE},
        "resource": {"type": "global"},
        "points": [{"interval": {"end_time": {"seconds": 1_790_000_000}}, "value": {"int64_value": 1}}],
    }
    return types.TimeSeries.pb(types.TimeSeries({**fields, **changes}))


def returned(series):
    """The point of a series that is written and read back."""
    write = write_from(series, place=0)
    kept = TimeSeries(identity=write.identity, kind="GAUGE", value_type=write.value_type)
    kept.points.append(write.point)
    [[point]] = [one.points for one in series_page([kept], size=0, token="", headers=False).time_series]
    return point


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=5), max_size=5), st.integers(1, 7), st.booleans())
def test_pages_put_together_are_the_whole(values, size, headers):
    found = []
    for number, points in enumerate(values):
        one = TimeSeries(
            identity=Identity(metric_type=TYPE, resource_type=str(number)), kind="GAUGE", value_type="DOUBLE"
        )
        one.points.extend(Point(start_s=at, end_s=at, value=float(at)) for at in range(len(points)))
        found.append(one)
    seen, counts, token = [], [], ""
    while True:
        answer = series_page(found, size=size, token=token, headers=headers)
        seen += [(one.resource.type, point.value.double_value) for one in answer.time_series for point in one.points]
        counts.append(len(answer.time_series) if headers else sum(len(one.points) for one in answer.time_series))
        token = answer.next_page_token
        if not token:
            break
    assert all(count == size for count in counts[:-1])
    assert sum(counts) == (len(values) if headers else sum(map(len, values)))
    expected = [(str(number), float(at)) for number, points in enumerate(values) for at in range(len(points))]
    assert seen == ([] if headers else expected)


@pytest.mark.parametrize(("size", "token"), [(-1, ""), (1, "x"), (1, "-1")])
def test_a_page_that_cannot_be_is_refused(size, token):
    with pytest.raises(InvalidArgument, match="Invalid page_"):
        page([1, 2, 3], size=size, token=token, size_max=2)


def test_a_page_is_no_longer_than_the_server_allows():
    assert page([1, 2, 3], size=0, token="", size_max=2) == ([1, 2], "2")
    assert page([1, 2, 3], size=9, token="2", size_max=2) == ([3], "")


def test_the_largest_page_of_everyday_series_passes_a_plain_channel():
    labels = (("fleet", "f" * 30), ("model", "m" * 30))
    found = []
    for number in range(POINTS_PER_PAGE + 1):
        identity = Identity(
            metric_type="custom.googleapis.com/lowtide/redis_requests",
            metric_labels=(*labels, ("state", str(number))),
            resource_type="global",
            resource_labels=(("project_id", "p" * 30),),
        )
        found.append(TimeSeries(identity=identity, kind="GAUGE", value_type="DOUBLE"))
        found[-1].points.append(Point(start_s=1.79e9, end_s=1.79e9, value=0.1))
    answer = series_page(found, size=100_000, token="", headers=False)
    assert answer.next_page_token == str(POINTS_PER_PAGE)
    assert answer.ByteSize() < 4 * 1024 * 1024


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": []}, r"timeSeries\[4\].points had an invalid value.* not 0"),
        ({"points": sent().points[:] * 2}, "Only one point can be written"),
        ({"points": [{"interval": {"end_time": {"seconds": 1}}}]}, "value is required"),
        ({"points": [{"value": {"int64_value": 1}}]}, "end_time is required"),
        ({"value_type": "DOUBLE"}, "valueType must be that of its point, INT64"),
        ({"metric_kind": "DELTA"}, "GAUGE or CUMULATIVE, not DELTA"),
        ({"metric_kind": 77}, "not 77"),
    ],
)
def test_a_malformed_series_is_refused_with_its_place(changes, said):
    with pytest.raises(InvalidArgument, match=said):
        write_from(sent(**changes), place=4)


def test_what_would_be_ignored_is_refused():
    with pytest.raises(Unsupported, match="unit"):
        write_from(sent(unit="s"), place=0)
    with pytest.raises(Unsupported, match="launch_stage"):
        descriptor_from(metric_pb2.MetricDescriptor(type=TYPE, launch_stage="BETA"))
    with pytest.raises(InvalidArgument, match="not MONEY"):
        descriptor_from(metric_pb2.MetricDescriptor(type=TYPE, metric_kind="GAUGE", value_type="MONEY"))


@pytest.mark.parametrize(
    "value",
    [
        {"bool_value": True},
        {"int64_value": -(2**63)},
        {"double_value": 0.1},
        {"string_value": "x"},
        {"distribution_value": {"count": 3, "mean": 2.5, "bucket_counts": [1, 2]}},
    ],
)
def test_a_value_comes_back_as_it_was_sent(value):
    series = sent(points=[{"interval": {"end_time": {"seconds": 1_790_000_000}}, "value": value}])
    assert returned(series).value == series.points[0].value


@given(st.integers(1_700_000_000_000_000, 2**31 * 10**6))
def test_a_time_in_whole_microseconds_comes_back_as_it_was_sent_until_2038(micros):
    end = {"seconds": micros // 10**6, "nanos": micros % 10**6 * 1000}
    interval = returned(sent(points=[{"interval": {"end_time": end}, "value": {"int64_value": 1}}])).interval
    assert interval.end_time.ToNanoseconds() == interval.start_time.ToNanoseconds() == micros * 1000


def test_the_summary_counts_points_by_reason():
    status = status_to(PartlyWritten([(0, "late"), (2, "early"), (3, "late")], total=5))
    summary = types.CreateTimeSeriesSummary.pb()()
    assert status.details[0].Unpack(summary)
    assert (summary.total_point_count, summary.success_point_count) == (5, 2)
    assert [(error.status.message, error.point_count) for error in summary.errors] == [("late", 2), ("early", 1)]
    assert status.message.startswith("One or more TimeSeries could not be written: timeSeries[0]: late; ")

"""What the local Cloud Monitoring takes, refuses and gives back, by the rules of the real one."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.config.metrics import PUBSUB_UNDELIVERED
from lowtide.local.errors import InvalidArgument, NotFound
from lowtide.local.monitoring.filters import Filter
from lowtide.local.monitoring.series import POINTS_MAX, Descriptor, Identity, Kind, Point, ValueType, Write
from lowtide.local.monitoring.state import MonitoringState

NOW = 1_780_000_000.0
TYPE = "custom.googleapis.com/lowtide/work"
WANTED = Filter(metric_type=TYPE, resource_type="global")
GAUGE = Descriptor(type=TYPE, kind="GAUGE", value_type="DOUBLE", unit="s", labels={"fleet": "which"})


@pytest.fixture
def state() -> MonitoringState:
    return MonitoringState()


def gauge(value: float = 1.0, *, at: float = NOW, fleet: str = "a", resource: str = "global", **changes: Any) -> Write:
    write = Write(
        identity=Identity(metric_type=TYPE, metric_labels=(("fleet", fleet),), resource_type=resource),
        kind="GAUGE",
        value_type="DOUBLE",
        point=Point(start_s=at, end_s=at, value=value),
    )
    return replace(write, **changes)


def write(state: MonitoringState, *writes: Write, now_s: float = NOW) -> list[tuple[int, str]]:
    return state.write("p", writes, now_s=now_s)


def values(
    state: MonitoringState, *, start_s: float | None = NOW - 3600, end_s: float = NOW + 3600
) -> list[list[float]]:
    found = state.read("p", WANTED, start_s=start_s, end_s=end_s)
    return [[point.value for point in series.points] for series in found]


def why(refused: Iterable[tuple[int, str]]) -> str:
    [(place, text)] = refused
    assert place == 0
    return text


def test_points_come_back_newest_first(state: MonitoringState) -> None:
    for step in range(3):
        assert write(state, gauge(step, at=NOW + 15 * step)) == []
    assert values(state) == [[2, 1, 0]]


def test_the_start_of_an_interval_is_outside_and_its_end_inside(state: MonitoringState) -> None:
    for step in range(3):
        write(state, gauge(step, at=NOW + 15 * step))
    assert values(state, start_s=NOW, end_s=NOW + 30) == [[2, 1]]
    assert values(state, start_s=None, end_s=NOW + 15) == [[1]]
    assert values(state, start_s=NOW + 30, end_s=NOW + 60) == []


def test_series_differ_by_labels_and_projects_know_nothing_of_each_other(state: MonitoringState) -> None:
    assert write(state, gauge(1, fleet="a"), gauge(2, fleet="b")) == []
    state.write("another", [gauge(3)], now_s=NOW)
    assert sorted(values(state)) == [[1], [2]]
    assert state.read("p", replace(WANTED, metric_labels={"fleet": "b"}), start_s=0, end_s=NOW)[0].points


@pytest.mark.parametrize("at", [NOW, NOW - 60])
def test_a_point_that_is_not_newer_is_refused(state: MonitoringState, at: float) -> None:
    write(state, gauge(1))
    assert "written in order" in why(write(state, gauge(2, at=at)))
    assert values(state) == [[1]]


def test_a_point_sooner_than_five_seconds_after_the_last_is_refused(state: MonitoringState) -> None:
    write(state, gauge(1))
    assert "more frequently" in why(write(state, gauge(2, at=NOW + 4.9)))
    assert write(state, gauge(2, at=NOW + 5)) == []


def test_points_of_the_distant_past_and_of_the_future_are_refused(state: MonitoringState) -> None:
    assert "25h in the past" in why(write(state, gauge(at=NOW - 25 * 3600 - 1)))
    assert "5 minutes in the future" in why(write(state, gauge(at=NOW + 301)))
    assert write(state, gauge(at=NOW - 25 * 3600), gauge(at=NOW + 300, fleet="b")) == []


def test_what_breaks_a_rule_is_told_of_and_the_rest_is_written(state: MonitoringState) -> None:
    refused = write(state, gauge(1, fleet="a"), gauge(2, resource="pubsub_topic"), gauge(3, fleet="c"))
    assert [place for place, _ in refused] == [1]
    assert sorted(values(state)) == [[1], [3]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "CUMULATIVE", "point": Point(start_s=NOW - 9, end_s=NOW, value=1.0)}, "must be GAUGE"),
        ({"value_type": "INT64"}, "must be DOUBLE"),
        ({"point": Point(start_s=NOW - 1, end_s=NOW, value=1.0)}, "start time of a gauge"),
        ({"point": Point(start_s=NOW, end_s=NOW, value=float("nan"))}, "finite"),
        ({"identity": Identity(metric_type=TYPE, metric_labels=(("x", ""),), resource_type="global")}, "labels: x"),
        ({"identity": Identity(metric_type=PUBSUB_UNDELIVERED, resource_type="global")}, "custom.googleapis.com"),
        ({"identity": Identity(metric_type="custom.googleapis.com/", resource_type="global")}, "metric type"),
    ],
)
def test_a_point_that_is_not_what_its_descriptor_says_is_refused(
    state: MonitoringState, change: dict[str, Any], said: str
) -> None:
    state.create_descriptor("p", GAUGE)
    assert said in why(write(state, gauge(**change)))
    assert values(state) == []


def test_a_cumulative_point_needs_a_time_that_it_covers(state: MonitoringState) -> None:
    wrong = gauge(kind="CUMULATIVE", point=Point(start_s=NOW, end_s=NOW, value=1.0))
    assert "must be before" in why(write(state, wrong))
    assert write(state, replace(wrong, point=Point(start_s=NOW - 60, end_s=NOW, value=1.0))) == []


def total(value: float, *, start: float, end: float) -> Write:
    return gauge(kind="CUMULATIVE", point=Point(start_s=NOW + start, end_s=NOW + end, value=value))


def test_a_cumulative_metric_goes_on_from_its_start_or_begins_anew_after_its_last_point(state: MonitoringState) -> None:
    assert write(state, total(1, start=-60, end=0)) == []
    assert write(state, total(2, start=-60, end=10)) == []
    assert "older start time" in why(write(state, total(1, start=5, end=20)))
    assert "older start time" in why(write(state, total(1, start=10, end=20)))
    assert write(state, total(1, start=10.001, end=20)) == []
    assert values(state) == [[1, 2, 1]]


@pytest.mark.parametrize("kind", ["GAUGE", "CUMULATIVE"])
def test_a_point_without_a_kind_is_of_its_metrics_kind(state: MonitoringState, kind: Kind) -> None:
    state.create_descriptor("p", replace(GAUGE, kind=kind))
    start_s = NOW if kind == "GAUGE" else NOW - 60
    assert write(state, gauge(kind=None, point=Point(start_s=start_s, end_s=NOW, value=1.0))) == []
    assert [series.kind for series in state.read("p", WANTED, start_s=0, end_s=NOW)] == [kind]


def test_a_new_metric_without_a_kind_is_a_gauge(state: MonitoringState) -> None:
    assert write(state, gauge(kind=None)) == []
    assert state.descriptor("p", TYPE).kind == "GAUGE"


def test_strings_need_a_descriptor_of_their_own(state: MonitoringState) -> None:
    text = gauge(value_type="STRING", point=Point(start_s=NOW, end_s=NOW, value="on"))
    assert "descriptor" in why(write(state, text))
    state.create_descriptor("p", replace(GAUGE, value_type="STRING"))
    assert write(state, text) == []


@pytest.mark.parametrize("value_type", ["BOOL", "STRING"])
def test_what_has_no_sum_is_a_gauge(state: MonitoringState, value_type: ValueType) -> None:
    with pytest.raises(InvalidArgument, match="must be a GAUGE"):
        state.create_descriptor("p", replace(GAUGE, kind="CUMULATIVE", value_type=value_type))


def test_the_first_point_makes_no_metric_that_could_not_be_described(state: MonitoringState) -> None:
    point = Point(start_s=NOW - 60, end_s=NOW, value=True)
    assert "must be a GAUGE" in why(write(state, gauge(kind="CUMULATIVE", value_type="BOOL", point=point)))
    with pytest.raises(NotFound):
        state.descriptor("p", TYPE)


def test_a_request_without_series_with_too_many_or_with_one_twice_is_refused_whole(state: MonitoringState) -> None:
    with pytest.raises(InvalidArgument, match="missing field timeSeries"):
        write(state)
    with pytest.raises(InvalidArgument, match="at most 200"):
        write(state, *(gauge(fleet=str(number)) for number in range(201)))
    with pytest.raises(InvalidArgument, match="Duplicate TimeSeries"):
        write(state, gauge(1), gauge(2, at=NOW + 30))
    assert values(state) == []
    assert write(state, *(gauge(fleet=str(number)) for number in range(200))) == []


def test_the_first_point_makes_the_descriptor(state: MonitoringState) -> None:
    write(state, gauge())
    made = state.descriptor("p", TYPE)
    assert (made.kind, made.value_type, list(made.labels)) == ("GAUGE", "DOUBLE", ["fleet"])


def test_a_descriptor_is_updated_but_not_turned_into_another_and_goes_with_its_points(state: MonitoringState) -> None:
    state.create_descriptor("p", GAUGE)
    state.create_descriptor("p", replace(GAUGE, description="new", labels={"model": ""}))
    assert state.descriptor("p", TYPE).description == "new"
    assert list(state.descriptor("p", TYPE).labels) == ["fleet", "model"]
    with pytest.raises(InvalidArgument, match="cannot be changed"):
        state.create_descriptor("p", replace(GAUGE, value_type="INT64"))
    write(state, gauge())
    state.delete_descriptor("p", TYPE)
    assert values(state) == []
    for call in (state.descriptor, state.delete_descriptor):
        with pytest.raises(NotFound, match="Could not find descriptor"):
            call("p", TYPE)


def undelivered(state: MonitoringState, project: str = "p") -> list[tuple[float, int]]:
    wanted = Filter(metric_type=PUBSUB_UNDELIVERED, resource_labels={"subscription_id": "s"})
    found = state.read(project, wanted, start_s=NOW - 60, end_s=NOW + 60)
    return [(point.end_s - NOW, point.value) for series in found for point in series.points]


def test_pubsubs_metric_has_a_point_of_each_sample_and_each_subscription(state: MonitoringState) -> None:
    state.sample({"projects/p/subscriptions/s": 7, "projects/another/subscriptions/s": 9}, now_s=NOW)
    state.sample({"projects/p/subscriptions/s": 0}, now_s=NOW + 1)
    assert undelivered(state) == [(1, 0), (0, 7)]
    assert undelivered(state, "another") == [(0, 9)]


def test_pubsubs_metric_stays_in_order_when_the_clock_is_set_back(state: MonitoringState) -> None:
    for at, count in ((0, 1), (-10, 2), (0, 3), (1, 4)):
        state.sample({"projects/p/subscriptions/s": count}, now_s=NOW + at)
    assert undelivered(state) == [(1, 4), (0, 1)]


def test_pubsubs_metric_is_known_and_cannot_be_deleted(state: MonitoringState) -> None:
    assert PUBSUB_UNDELIVERED in [one.type for one in state.descriptors("p")]
    with pytest.raises(NotFound):
        state.delete_descriptor("p", PUBSUB_UNDELIVERED)


def test_memory_is_bounded(state: MonitoringState) -> None:
    for step in range(POINTS_MAX + 10):
        write(state, gauge(step, at=NOW + 5 * step), now_s=NOW + 5 * step)
    [points] = values(state, end_s=NOW + 10**6)
    assert len(points) == POINTS_MAX


@given(st.lists(st.tuples(st.floats(-90_000, 400), st.sampled_from("ab")), max_size=40))
def test_whatever_is_sent_a_series_is_in_order_and_five_seconds_apart(sent: list[tuple[float, str]]) -> None:
    state = MonitoringState()
    for offset_s, fleet in sent:
        write(state, gauge(at=NOW + offset_s, fleet=fleet))
    for series in state.read("p", WANTED, start_s=0, end_s=NOW + 10**6):
        times = [point.end_s for point in reversed(series.points)]
        assert all(later - earlier >= 5 for earlier, later in pairwise(times))

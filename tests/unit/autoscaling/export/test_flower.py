"""What Flower's metrics say, from their text."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.autoscaling.export.flower import FlowerFigures, FlowerTally, parse
from lowtide.autoscaling.export.flower_pace import Pace, pace
from lowtide.autoscaling.signal.last_value import SourceUnreadable

IDLE = """
# HELP flower_events_total Number of events
# TYPE flower_events_total counter
# HELP flower_task_runtime_seconds Task runtime
# TYPE flower_task_runtime_seconds histogram
# HELP flower_task_prefetch_time_seconds The time the task spent waiting at the celery worker to be executed.
# TYPE flower_task_prefetch_time_seconds gauge
# HELP flower_worker_online Worker online status
# TYPE flower_worker_online gauge
"""

AT_WORK = r"""
# TYPE python_info gauge
python_info{implementation="CPython",major="3",minor="11",version="3.11.2"} 1.0
# TYPE flower_events_total counter
flower_events_total{task="lowtide.infer",type="task-received",worker="lowtide@a"} 9.0
flower_events_total{task="lowtide.infer",type="task-succeeded",worker="lowtide@a"} 5.0
flower_events_total{task="lowtide.infer",type="task-failed",worker="lowtide@a"} 2.0
flower_events_total{task="lowtide.infer_chunk",type="task-succeeded",worker="lowtide@a"} 3.0
flower_events_total{task="own.sleep",type="task-succeeded",worker="celery@web"} 7.0
flower_events_total{task="an \"application\\task\"",type="task-succeeded",worker="lowtide@b"} 1e+06
# TYPE flower_events_created gauge
flower_events_created{task="lowtide.infer",type="task-succeeded",worker="lowtide@a"} 1.7321184e+09
# TYPE flower_task_runtime_seconds histogram
flower_task_runtime_seconds_bucket{le="0.005",task="lowtide.infer",worker="lowtide@a"} 4.0
flower_task_runtime_seconds_bucket{le="+Inf",task="lowtide.infer",worker="lowtide@a"} 5.0
flower_task_runtime_seconds_count{task="lowtide.infer",worker="lowtide@a"} 5.0
flower_task_runtime_seconds_sum{task="lowtide.infer",worker="lowtide@a"} 0.5
flower_task_runtime_seconds_count{task="lowtide.infer_chunk",worker="lowtide@a"} 3.0
flower_task_runtime_seconds_sum{task="lowtide.infer_chunk",worker="lowtide@a"} 1.5
# TYPE flower_task_runtime_seconds_created gauge
flower_task_runtime_seconds_created{task="lowtide.infer",worker="lowtide@a"} 1.7321184e+09
# TYPE flower_task_prefetch_time_seconds gauge
flower_task_prefetch_time_seconds{task="lowtide.infer",worker="lowtide@a"} 0.0
flower_task_prefetch_time_seconds{task="lowtide.infer_chunk",worker="lowtide@a"} 0.25
flower_task_prefetch_time_seconds{task="lowtide.infer_chunk",worker="lowtide@b"} 0.75
flower_task_prefetch_time_seconds{task="own.sleep",worker="celery@web"} 90.0
# TYPE flower_worker_online gauge
flower_worker_online{worker="lowtide@a"} 1.0
flower_worker_online{worker="lowtide@b"} 1.0
flower_worker_online{worker="lowtide@gone"} 0.0
flower_worker_online{worker="celery@web"} 1.0
"""

counters = st.integers(min_value=0, max_value=10**6)
tallies = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(FlowerTally, succeeded=counters, failed=counters, timed=counters, run_s=counters.map(float)),
)


def of(**tally: FlowerTally) -> FlowerFigures:
    return FlowerFigures(tallies=tally)


def test_a_flower_that_saw_nobody_yet_says_zero() -> None:
    assert parse(IDLE, where="") == FlowerFigures(workers_online=0, prefetch_s=0.0, tallies={})


def test_workers_tasks_run_times_and_waits_are_read_and_those_of_neighbours_are_not() -> None:
    assert parse(AT_WORK, where="") == FlowerFigures(
        workers_online=2,
        prefetch_s=0.5,
        tallies={
            "lowtide@a": FlowerTally(succeeded=8, failed=2, timed=8, run_s=2.0),
            "lowtide@b": FlowerTally(succeeded=1_000_000),
        },
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!doctype html>\n<html><body>Log in</body></html>",
        '{"workers": 3}',
        '# TYPE python_info gauge\npython_info{version="3.11.2"} 1.0\n',
        AT_WORK[: AT_WORK.index("# TYPE flower_worker_online")],
        AT_WORK.replace('worker="lowtide@a"', 'machine="lowtide@a"'),
        AT_WORK.replace(" 1e+06", " many"),
    ],
)
def test_what_is_not_flowers_is_no_figure_and_above_all_no_zero(text: str) -> None:
    with pytest.raises(SourceUnreadable, match="http://f/metrics answers"):
        parse(text, where="http://f/metrics")


@given(st.text() | st.text(alphabet='flower_online{}="#\\ \n1').map(lambda noise: AT_WORK + noise))
def test_no_text_does_worse_than_to_be_unreadable(text: str) -> None:
    with contextlib.suppress(SourceUnreadable):
        parse(text, where="")


def test_the_pace_is_what_was_added_per_second() -> None:
    before = of(a=FlowerTally(succeeded=10, failed=1, timed=10, run_s=1.0), b=FlowerTally(succeeded=100))
    after = of(a=FlowerTally(succeeded=40, failed=4, timed=40, run_s=7.0), b=FlowerTally(succeeded=100))

    assert pace(before, after, seconds=15) == Pace(succeeded_per_s=2.0, failed_per_s=0.2, runtime_s=0.2)


def test_without_a_task_that_ended_there_is_no_run_time() -> None:
    same = of(a=FlowerTally(succeeded=10, timed=10, run_s=1.0))

    assert pace(same, same, seconds=15) == Pace(succeeded_per_s=0.0, failed_per_s=0.0, runtime_s=None)


def test_a_worker_that_is_new_counts_with_all_it_did() -> None:
    after = of(a=FlowerTally(succeeded=30, timed=30, run_s=3.0))

    assert pace(of(), after, seconds=15) == Pace(succeeded_per_s=2.0, failed_per_s=0.0, runtime_s=0.1)


def test_after_flowers_restart_its_counters_began_anew() -> None:
    before = of(a=FlowerTally(succeeded=1000, failed=3, timed=1000, run_s=100.0))
    # `failed` did not fall, and is new all the same.
    after = of(a=FlowerTally(succeeded=15, failed=15, timed=15, run_s=3.0))

    assert pace(before, after, seconds=15) == Pace(succeeded_per_s=1.0, failed_per_s=1.0, runtime_s=0.2)


def test_a_worker_that_flower_forgot_makes_no_burst_of_the_others() -> None:
    before = of(a=FlowerTally(succeeded=9000), b=FlowerTally(succeeded=5000))

    assert pace(before, of(b=FlowerTally(succeeded=5030)), seconds=15).succeeded_per_s == 2.0


@given(before=tallies, after=tallies)
def test_a_pace_is_never_negative_nor_more_than_everything(
    before: dict[str, FlowerTally], after: dict[str, FlowerTally]
) -> None:
    found = pace(of(**before), of(**after), seconds=1)

    assert 0 <= found.succeeded_per_s <= sum(tally.succeeded for tally in after.values())
    assert 0 <= found.failed_per_s <= sum(tally.failed for tally in after.values())
    assert found.runtime_s is None or found.runtime_s >= 0

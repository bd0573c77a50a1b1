import pytest

from lowtide.tasks.held.silence_watch import Sight, SilenceWatch


def watched(watch: SilenceWatch, beats: dict[str, float], *, start_s: float, seconds: int) -> dict[str, float]:
    return [watch.look(beats, start_s + second) for second in range(seconds)][-1]


def test_who_does_not_change_is_silent() -> None:
    watch = SilenceWatch(quiet_s=20, gap_s=6)
    assert watched(watch, {"a": 1.0, "b": 7.0}, start_s=0, seconds=20) == {}
    assert watch.look({"a": 1.0, "b": 7.0}, 20) == {"a": 1.0, "b": 7.0}


def test_a_change_starts_over_for_that_one_alone() -> None:
    watch = SilenceWatch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0, "b": 1.0}, start_s=0, seconds=10)
    assert watched(watch, {"a": 2.0, "b": 1.0}, start_s=10, seconds=11) == {"b": 1.0}


def test_one_that_was_away_starts_over() -> None:
    watch = SilenceWatch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0}, start_s=0, seconds=19)
    watch.look({}, 19)
    assert watch.look({"a": 1.0}, 21) == {}


def test_a_gap_starts_everything_over() -> None:
    watch = SilenceWatch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0}, start_s=0, seconds=19)
    assert watch.look({"a": 1.0}, 26) == {}
    assert watched(watch, {"a": 1.0}, start_s=27, seconds=20) == {"a": 1.0}


def test_a_restart_starts_everything_over() -> None:
    watch = SilenceWatch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0}, start_s=0, seconds=20)
    watch.restart()
    assert watch.look({"a": 1.0}, 20) == {}


def test_who_was_given_up_is_due_at_once() -> None:
    assert SilenceWatch(quiet_s=20, gap_s=6).look({"a": 0.0, "b": 1.0}, 0) == {"a": 0.0}


def sight_of(*calls: tuple[float, float]) -> Sight:
    """Redis' time, and our own, of each answer."""
    sight = Sight(gap_s=10)
    for redis_s, now_s in calls:
        sight.saw(redis_s, now_s)
    return sight


def test_while_redis_was_in_sight_its_times_are_ours() -> None:
    sight = sight_of((1000, 0), (1005, 5), (1010.5, 10))
    assert sight.time_of(1006.5, 12) == 6


def test_what_was_before_the_first_sight_counts_from_there() -> None:
    assert sight_of((1000, 50), (1005, 55)).time_of(900, 56) == 50


def test_nothing_was_later_than_now() -> None:
    assert sight_of((1000, 0), (1005, 5)).time_of(2000, 6) == 6


@pytest.mark.parametrize(
    ("redis_s", "now_s"),
    [
        pytest.param(1016, 16, id="a gap"),
        pytest.param(1012, 10, id="Redis' clock was set forward"),
        pytest.param(1008, 10, id="Redis' clock was set back"),
        pytest.param(1005, 10, id="Redis' clock stands still"),
    ],
)
def test_sight_begins_anew_after(redis_s: float, now_s: float) -> None:
    assert sight_of((1000, 0), (1005, 5), (redis_s, now_s)).time_of(0, 17) == now_s


def test_what_redis_did_not_answer_was_not_seen() -> None:
    sight = sight_of((1000, 0), (1005, 5))
    sight.lost()
    assert sight.time_of(1001, 6) == 6
    sight.saw(1007, 7)
    assert sight.time_of(1001, 8) == 7


def test_who_has_not_seen_redis_for_long_knows_nothing() -> None:
    assert sight_of((1000, 0), (1005, 5)).time_of(1001, 16) == 16


def test_a_successor_needs_not_see_again_what_redis_wrote_down_in_its_sight() -> None:
    watch = SilenceWatch(quiet_s=20, gap_s=6)
    watch.succeed(sight_of(*((1000 + second, second) for second in range(0, 31, 5))))
    assert watch.look({"long": 1009.0, "just": 1029.0, "ahead": 2000.0}, 30) == {"long": 1009.0}
    assert watch.look({"long": 1009.0, "just": 1029.0, "new": 1.0}, 36) == {"long": 1009.0}
    assert watched(watch, {"just": 1029.0, "new": 1.0}, start_s=37, seconds=13) == {"just": 1029.0}

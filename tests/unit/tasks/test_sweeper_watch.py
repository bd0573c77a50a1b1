from lowtide.tasks.transport.sweeper import Watch


def watched(watch: Watch, beats: dict[str, float], *, start_s: float, seconds: int) -> dict[str, float]:
    return [watch.look(beats, start_s + second) for second in range(seconds)][-1]


def test_who_does_not_change_is_silent() -> None:
    watch = Watch(quiet_s=20, gap_s=6)
    assert watched(watch, {"a": 1.0, "b": 7.0}, start_s=0, seconds=20) == {}
    assert watch.look({"a": 1.0, "b": 7.0}, 20) == {"a": 1.0, "b": 7.0}


def test_a_change_starts_over_for_that_one_alone() -> None:
    watch = Watch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0, "b": 1.0}, start_s=0, seconds=10)
    assert watched(watch, {"a": 2.0, "b": 1.0}, start_s=10, seconds=11) == {"b": 1.0}


def test_one_that_was_away_starts_over() -> None:
    watch = Watch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0}, start_s=0, seconds=19)
    watch.look({}, 19)
    assert watch.look({"a": 1.0}, 21) == {}


def test_a_gap_starts_everything_over() -> None:
    watch = Watch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0}, start_s=0, seconds=19)
    assert watch.look({"a": 1.0}, 26) == {}
    assert watched(watch, {"a": 1.0}, start_s=27, seconds=20) == {"a": 1.0}


def test_a_restart_starts_everything_over() -> None:
    watch = Watch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0}, start_s=0, seconds=20)
    watch.restart()
    assert watch.look({"a": 1.0}, 20) == {}


def test_who_was_given_up_is_due_at_once() -> None:
    assert Watch(quiet_s=20, gap_s=6).look({"a": 0.0, "b": 1.0}, 0) == {"a": 0.0}

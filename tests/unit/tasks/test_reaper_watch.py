from lowtide.tasks.transport.reaper import Watch


def watched(watch: Watch, scores: dict[str, float | None], *, start_s: float, seconds: int) -> dict[str, float | None]:
    return [watch.look(scores, start_s + second) for second in range(seconds)][-1]


def test_what_does_not_change_becomes_quiet() -> None:
    watch = Watch(quiet_s=20, gap_s=6)
    assert watched(watch, {"a": 1.0, "b": None}, start_s=0, seconds=20) == {}
    assert watch.look({"a": 1.0, "b": None}, 20) == {"a": 1.0, "b": None}


def test_a_change_starts_over_for_that_tag_alone() -> None:
    watch = Watch(quiet_s=20, gap_s=6)
    watched(watch, {"a": 1.0, "b": 1.0}, start_s=0, seconds=10)
    assert watched(watch, {"a": 2.0, "b": 1.0}, start_s=10, seconds=11) == {"b": 1.0}


def test_a_tag_that_was_away_starts_over() -> None:
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

from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.workers.engine.retries import RECENT_S, WHY_MAX_CHARS, Retries, Retrying


class World:
    """A clock, and what is noted by it."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.retries = Retries(clock=lambda: self.now_s)

    def fails(self, message: str, *, after_s: float = 0.0, retry: bool = True) -> None:
        self.now_s += after_s
        self.retries.note(Outcome.failed("unavailable", message, retry=retry))


def test_the_newest_reason_is_told_with_its_age_and_how_many_there_were() -> None:
    world = World()
    assert world.retries.recent() is None
    world.fails("gs://b/1.jpg: 503")
    world.fails("gs://b/2.jpg: 503", after_s=90.0)
    world.now_s += 7.0
    assert world.retries.recent() == Retrying("gs://b/2.jpg: 503", 7.0, 2)


def test_what_ends_for_good_is_no_reason() -> None:
    world = World()
    world.fails("gs://b/1.jpg: there is no such object", retry=False)
    world.retries.note(Outcome(status=Status.OK, outputs=[1]))
    assert world.retries.recent() is None


def test_it_is_forgotten_after_a_while_and_counted_anew() -> None:
    world = World()
    world.fails("503")
    world.now_s += RECENT_S + 1
    assert world.retries.recent() is None
    world.fails("502")
    assert world.retries.recent() == Retrying("502", 0.0, 1)


def test_signatures_stay_secret_and_a_long_reason_is_cut() -> None:
    world = World()
    world.fails("https://host/1.jpg?sig=abc: 503 " + "x" * 2000)
    recent = world.retries.recent()
    assert recent is not None
    assert recent.why.startswith("https://host/1.jpg?…: 503")
    assert len(recent.why) == WHY_MAX_CHARS

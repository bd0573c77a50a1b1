"""The last value of a source that can't be read."""

import logging

import pytest

from lowtide.autoscaling.signal.last_value import LastValue, SourceUnreadable


class Source:
    def __init__(self) -> None:
        self.now_s = 10.0
        self.answer: int | None = None

    def read(self) -> int:
        if self.answer is None:
            raise SourceUnreadable("no answer")
        return self.answer

    def clock(self) -> float:
        return self.now_s


def test_a_value_that_is_old_when_it_is_read_keeps_that_age() -> None:
    source = Source()
    source.answer = 7
    held = LastValue("source", source.read, age_of=lambda value: 10.0 * value, clock=source.clock)
    held.refresh()
    source.answer = None
    source.now_s += 15
    assert (held.refresh(), held.age_s) == (7, 85.0)


def test_the_last_value_is_held_with_its_age_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = Source()
    held = LastValue("source", source.read, clock=source.clock)
    source.now_s = 13.0
    assert (held.refresh(), held.age_s) == (None, 3.0)

    source.answer = 7
    assert (held.refresh(), held.age_s) == (7, 0.0)
    source.answer = None
    for _ in range(3):
        source.now_s += 15
        assert held.refresh() == 7
    assert (held.age_s, held.why) == (45.0, "no answer")
    source.answer = 0
    assert (held.refresh(), held.age_s, held.why) == (0, 0.0, None)
    said = [record.message for record in caplog.records]
    assert [line.split(":")[0] for line in said] == ["source can't be read"] * 4
    assert [("no answer" in line, "back after" in line) for line in said] == [(True, False), (False, True)] * 2

from typing import Any, Self

from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.running.losses import History, Losses
from lowtide.tasks.wire.outcome import Outcome, Status


class Stored:
    """A Redis that answers with the losses, the marks and the parts of a task."""

    def __init__(self, *stored: Any) -> None:
        self._stored = list(stored)

    def pipeline(self, *, transaction: bool) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get(self, key: str) -> None: ...

    def hgetall(self, key: str) -> None: ...

    def execute(self) -> list[Any]:
        return self._stored


def history(losses: bytes | None, marks: list[bytes], parts: dict[bytes, bytes]) -> History:
    redis: Any = Stored(losses, dict.fromkeys(marks, b"1"), parts)
    return Losses(redis, Keys("")).look("t")


def test_a_mark_is_a_strike_when_a_loss_followed() -> None:
    assert history(b"2", [b"0:0", b"0:1", b"1:2"], {}).strikes == {0: 2}


def test_the_mark_of_a_group_splits_it_when_a_loss_followed_and_is_no_strike() -> None:
    found = history(b"2", [b"g0:1", b"g1:2", b"3:0"], {})

    assert (found.strikes, found.split) == ({3: 1}, {0})


def test_a_loss_is_stray_when_no_mark_explains_it() -> None:
    assert history(b"5", [b"g0:1", b"0:1", b"1:3", b"1:5"], {}).stray == 3
    assert history(None, [b"0:0"], {}).stray == 0


def test_marks_and_outcomes_of_another_release_count_for_nothing() -> None:
    parts = {
        b"0": b'{"status": "ok", "outputs": [1], "a_newer_field": 1}',
        b"1": b'{"status": "a newer status"}',
        b"2": b"{",
        b"2:0": b'{"status": "ok"}',
    }

    found = history(b"2", [b"0", b"0:1", b"1:x", b"2:0:0", b"\xff:0", b"h1:0"], parts)

    assert found == History(losses=2, strikes={0: 1}, stray=1, outcomes={0: Outcome(status=Status.OK, outputs=[1])})

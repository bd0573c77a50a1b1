import threading
from contextlib import nullcontext
from typing import Any

import pytest

from lowtide.tasks import presence
from lowtide.tasks.keys import Keys
from lowtide.tasks.presence import Presence


class Pipe:
    def __init__(self) -> None:
        self.beaten = threading.Semaphore(0)

    def sadd(self, *_: Any, **__: Any) -> None:
        """Nothing that is looked at."""

    set = delete = sadd

    def execute(self) -> None:
        self.beaten.release()

    def pipeline(self, **_: Any) -> Any:
        return nullcontext(self)


def test_a_word_that_fails_once_does_not_make_the_process_look_dead(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.01)
    words = iter([{}, KeyError("odd")])

    def word() -> dict[str, Any]:
        said = next(words, {})
        if isinstance(said, Exception):
            raise said
        return said

    redis: Any = Pipe()
    signing = Presence(redis, Keys(""), kind="worker", name="w", word=word)
    signing.start()
    try:
        assert all(redis.beaten.acquire(timeout=5) for _ in range(3))
    finally:
        signing.stop()
    assert caplog.messages == ["a beat of w failed"]

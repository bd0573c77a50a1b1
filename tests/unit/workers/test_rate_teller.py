from typing import Any

import pytest
from redis import ConnectionError as Unreachable

from lowtide.tasks.redis.keys import Keys
from lowtide.workers.rate_teller import TELL_S, RateTeller


class Notes:
    """In the place of Redis: what was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []
        self.away = False

    def hset(self, key: str, mapping: dict[str, float]) -> None:
        assert key == Keys("").rates
        if self.away:
            raise Unreachable
        self.told.append(dict(mapping))


def test_a_model_s_first_rate_is_told_at_once_and_all_of_them_every_five_seconds() -> None:
    redis, rates, now_s = Notes(), dict[str, float](), 0.0
    teller = RateTeller(redis_of(redis), Keys(""), rates.copy, clock=lambda: now_s)

    teller.turn()
    assert redis.told == [], "nothing is known"
    rates["a"] = 0.1
    teller.turn()
    rates["a"] = 0.15
    teller.turn()
    assert redis.told == [{"a": 0.1}]

    rates["b"] = 0.3
    teller.turn()
    assert redis.told[1:] == [{"a": 0.15, "b": 0.3}]

    now_s = TELL_S - 0.1
    teller.turn()
    assert len(redis.told) == 2
    now_s = TELL_S
    teller.turn()
    assert redis.told[2:] == [{"a": 0.15, "b": 0.3}]


@pytest.mark.parametrize("far", [0.05, 0.2])
def test_a_rate_that_is_far_from_what_was_told_is_told_at_once(far: float) -> None:
    redis, rates = Notes(), {"a": 0.1}
    teller = RateTeller(redis_of(redis), Keys(""), rates.copy, clock=lambda: 0.0)
    teller.turn()
    rates["a"] = far
    teller.turn()
    teller.turn()
    assert redis.told == [{"a": 0.1}, {"a": far}]


def test_what_could_not_be_told_is_told_at_the_next_turn_and_all_at_the_end() -> None:
    redis, rates = Notes(), {"a": 0.1}
    teller = RateTeller(redis_of(redis), Keys(""), rates.copy, clock=lambda: 0.0)
    redis.away = True
    teller.turn()
    redis.away = False
    teller.turn()
    assert redis.told == [{"a": 0.1}]

    rates["a"] = 0.11  # no news: it is told because this is the end
    teller.start()
    teller.stop()
    assert redis.told[1:] == [{"a": 0.11}]


def redis_of(notes: Notes) -> Any:
    return notes

import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from redis import ConnectionError as RedisAway

from lowtide.tasks import InvalidRequest, UnknownModel
from lowtide.tasks.client.diagnosis import why_unanswered
from lowtide.tasks.client.served import FRESH_S, Served, check, rates
from lowtide.tasks.redis.keys import PROTOCOL, Keys
from tests.clock import Clock


class Store:
    """As much of Redis as is read: a list, and what workers say."""

    def __init__(self, models: list[str] | None = None, **workers: list[str]) -> None:
        self.models = models
        self.workers = workers
        self.measured: dict[bytes, bytes] = {}
        self.away = False
        self.asked = 0

    def get(self, key: str) -> bytes | None:
        if key == Keys("").protocol:
            return PROTOCOL.encode()
        self.asked += 1
        if self.away:
            raise RedisAway("away")
        return None if self.models is None else json.dumps(self.models).encode()

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        self.asked += 1
        if self.away:
            raise RedisAway("away")
        return self.measured

    def register_script(self, text: str) -> Any:
        return lambda keys, args: [
            item.encode() for name, models in self.workers.items() for item in (name, json.dumps({"models": models}))
        ]


def served(store: Store, clock: Any = None) -> Served:
    return Served(store, Keys(""), clock=clock or Clock(0.0))


def test_what_neither_the_list_nor_a_live_worker_has_is_refused_and_what_there_is_is_named() -> None:
    fleet = served(Store(["a", "b"], w=["c"]))

    for model in "abc":
        fleet.check(model)
    with pytest.raises(UnknownModel, match="^model: d is not served here; served are a, b, c$") as caught:
        fleet.check("d")
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.type == "unknown_model"


def test_an_application_that_tests_with_a_broker_in_memory_has_no_fleet_and_is_refused_nothing() -> None:
    with Celery(broker="memory://", set_as_current=False) as app:
        check(app, "any")


def test_without_a_list_or_without_redis_nothing_is_refused() -> None:
    store = Store(None, w=["c"])
    served(store).check("d")
    store.models, store.away = ["a"], True
    served(store).check("d")


def test_a_list_that_has_just_been_written_counts_at_once() -> None:
    store = Store(None)
    fleet = served(store)
    fleet.check("b")
    store.models = ["a"]

    with pytest.raises(UnknownModel):
        fleet.check("b")


def test_a_model_that_was_added_a_moment_ago_is_never_refused() -> None:
    store = Store(["a"])
    fleet = served(store)
    fleet.check("a")
    store.models = ["a", "b"]

    fleet.check("b")


def test_redis_is_asked_now_and_then_and_not_for_every_call() -> None:
    store, clock = Store(["a"]), Clock(0.0)
    fleet = served(store, clock)
    for _ in range(1000):
        fleet.check("a")
    assert store.asked == 1
    clock.now_s = FRESH_S
    fleet.check("a")
    assert store.asked == 2


def test_a_model_that_is_no_longer_served_is_refused_after_some_seconds() -> None:
    store, clock = Store(["a", "b"]), Clock(0.0)
    fleet = served(store, clock)
    fleet.check("b")
    store.models, clock.now_s = ["a"], FRESH_S

    with pytest.raises(UnknownModel):
        fleet.check("b")


def test_a_redis_that_is_away_is_not_asked_again_and_again() -> None:
    store, clock = Store(["a"]), Clock(0.0)
    store.away = True
    fleet = served(store, clock)
    for _ in range(10):
        fleet.check("x")
    assert store.asked == 1


@pytest.mark.parametrize("status", [b"hello", b"[1]", b"null", b'{"models": 5}', b"\xff"])
def test_where_another_program_says_something_nothing_is_refused_and_nobody_falls(status: bytes) -> None:
    store: Any = Store(["a"], w=["c"])
    store.register_script = lambda text: lambda keys, args: [b"w", status]
    served(store).check("d")
    store.pipeline = lambda **_: nullcontext(SimpleNamespace(llen=lambda key: None, execute=lambda: [0]))
    assert "can't be read" in why_unanswered(store, Keys(""), ["a"])


def test_how_fast_models_are_is_asked_every_five_seconds_and_remembered_while_redis_is_away() -> None:
    store, clock = Store(), Clock(0.0)
    store.measured = {b"a": b"0.25", b"b": b"fast", b"c": b"nan"}
    fleet = served(store, clock)

    assert fleet.rates() == fleet.rates() == {"a": 0.25}
    assert store.asked == 1
    clock.now_s, store.measured = FRESH_S, {b"a": b"0.5"}
    assert fleet.rates() == {"a": 0.5}
    clock.now_s, store.away = 2 * FRESH_S, True
    assert fleet.rates() == fleet.rates() == {"a": 0.5}
    assert store.asked == 3


def test_an_application_that_tests_with_a_broker_in_memory_has_measured_nothing() -> None:
    with Celery(broker="memory://", set_as_current=False) as app:
        assert rates(app) == {}

"""Pulls that are under way, answers that wait, and subscriptions that refuse."""

from collections import Counter
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.pubsub_v1.types import PullResponse

from lowtide.bridge.held.held import LEASE_S
from lowtide.bridge.pubsub.pulls import LATE_S, PARKED_S, Pulls
from lowtide.bridge.waits import USUAL
from tests.clock import Clock

SUBSCRIPTIONS = ("urgent", "normal")
TURN_S = 0.25


class Failure(grpc.RpcError):
    """As a call ends."""

    def __init__(self, code: str) -> None:
        self.code = lambda: grpc.StatusCode[code]
        self.details = lambda: "no details"


class Pubsub:
    """Answers when the test says so, or at once: subscriptions of `failing` with that code, others with a message."""

    def __init__(self) -> None:
        self.pulls: list[tuple[str, int, Future[Any]]] = []
        self.calls: Counter[str] = Counter()
        self.failing: dict[str, str] | None = None

    def pull(self, subscription: str, count: int) -> Future[Any]:
        self.calls[subscription] += 1
        future = Future[Any]()
        self.pulls.append((subscription, count, future))
        if self.failing is not None and subscription in self.failing:
            future.set_exception(Failure(self.failing[subscription]))
        elif self.failing is not None:
            self.answer(subscription)
        return future

    def under_way(self, subscription: str) -> list[tuple[int, Future[Any]]]:
        """Messages asked for, and what the answer is set in."""
        return [(count, future) for name, count, future in self.pulls if name == subscription and not future.done()]

    def answer(self, subscription: str) -> None:
        message = {"message_id": "1", "data": b"x", "publish_time": datetime.now(UTC)}
        response = PullResponse(received_messages=[{"ack_id": "a", "message": message}])
        self.under_way(subscription)[-1][1].set_result(PullResponse.pb(response))


class World:
    def __init__(self) -> None:
        self.pubsub, self.clock = Pubsub(), Clock()
        self.pulls = Pulls(self.pubsub, SUBSCRIPTIONS, clock=self.clock)

    def turns(self, count: int) -> Counter[str]:
        """Subscription → messages that came."""
        came: Counter[str] = Counter()
        for _ in range(count):
            self.pulls.ask(10)
            came.update(message.subscription for message in self.pulls.take(0.0))
            self.clock.now_s += TURN_S
        return came


@pytest.fixture
def world() -> World:
    return World()


def test_an_answer_that_waited_for_longer_than_its_leases_brings_nothing() -> None:
    for waited_s, brings in ((LEASE_S, ["1"]), (LEASE_S + 0.1, [])):
        world = World()
        world.pulls.ask(10)
        world.pubsub.answer("urgent")
        world.clock.now_s += waited_s

        assert [message.message_id for message in world.pulls.take(0.0)] == brings
        assert world.pulls.take(0.0) == []
        assert world.pulls.may_come_again == (brings == [])


@pytest.mark.parametrize(("ended_s", "again"), [(LATE_S, False), (LATE_S + 0.5, True)])
def test_what_came_while_this_process_stood_still_comes_again_when_its_lease_ends(
    world: World, ended_s: float, again: bool
) -> None:
    world.pulls.ask(10)
    [(_, pull)] = world.pubsub.under_way("urgent")
    world.clock.now_s += ended_s
    pull.set_exception(Failure("DEADLINE_EXCEEDED"))

    assert world.pulls.take(0.0) == []
    assert world.pulls.may_come_again == again
    world.clock.now_s += LEASE_S
    assert not world.pulls.may_come_again


@pytest.mark.parametrize("code", ["NOT_FOUND", "PERMISSION_DENIED", "UNAVAILABLE", "DEADLINE_EXCEEDED"])
def test_a_subscription_that_fails_does_not_starve_the_others(world: World, code: str) -> None:
    world.pubsub.failing = {"urgent": code}
    came = world.turns(240)

    assert came["normal"] > 120
    assert world.pubsub.calls["urgent"] >= 240 * TURN_S / USUAL.refused_again_s / 2, "it is asked again and again"


def test_an_urgent_subscription_is_served_alone_while_it_gives(world: World) -> None:
    world.pubsub.failing = {}
    came = world.turns(40)

    assert (came["urgent"], came["normal"]) == (40, 1), "only the first turn asks each"


def test_what_has_run_dry_leaves_the_others_half_of_the_credit(world: World) -> None:
    world.pulls.ask(1000)
    world.pubsub.answer("urgent")
    world.pulls.take(0.0)
    world.pulls.ask(1000)
    world.clock.now_s += PARKED_S
    world.pubsub.answer("normal")
    world.pulls.take(0.0)
    world.pulls.ask(1000)

    counts = {name: [count for count, _ in world.pubsub.under_way(name)] for name in SUBSCRIPTIONS}
    assert counts == {"urgent": [100] * 5, "normal": [125] * 2}


def test_a_refusal_is_told_once_with_its_subscription_and_once_when_it_is_over(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.pubsub.failing = {"urgent": "PERMISSION_DENIED"}
    world.turns(240)
    assert world.pulls.refused == {"urgent": "PERMISSION_DENIED: no details"}
    assert world.pulls.refused_for_s() == 0.0, "the other is served"

    world.pubsub.failing = {}
    came = world.turns(40)
    assert came["urgent"] > came["normal"], "it is served again by itself"
    assert world.pulls.refused == {}
    assert [record.message.partition(": back after")[0] for record in caplog.records] == [
        "can't pull urgent: trying on: PERMISSION_DENIED: no details",
        "can't pull urgent",
    ]


def test_an_answer_to_what_was_asked_before_a_refusal_does_not_end_it(world: World) -> None:
    world.pulls.ask(1000)
    world.pubsub.answer("urgent")
    world.pulls.take(0.0)
    world.pulls.ask(1000)
    (_, early), (_, late), *_ = world.pubsub.under_way("urgent")
    world.clock.now_s += TURN_S
    late.set_exception(Failure("NOT_FOUND"))
    world.pulls.take(0.0)
    early.set_result(PullResponse.pb(PullResponse()))
    world.pulls.take(0.0)

    assert world.pulls.refused == {"urgent": "NOT_FOUND: no details"}


def test_only_the_refusal_of_all_subscriptions_lasts(world: World) -> None:
    world.pubsub.failing = dict.fromkeys(SUBSCRIPTIONS, "NOT_FOUND")
    world.turns(240)
    assert world.pulls.refused_for_s() == pytest.approx(240 * TURN_S, abs=2 * TURN_S)

    world.pubsub.failing = {"urgent": "NOT_FOUND", "normal": "UNAVAILABLE"}
    world.turns(40)
    assert world.pulls.refused_for_s() == 0.0
    assert set(world.pulls.refused) == {"urgent"}

from collections.abc import Sequence

import pytest

from lowtide.bridge.acker import Acker
from lowtide.bridge.flight import InFlight
from lowtide.bridge.leases import LEASE_S, Leases
from lowtide.bridge.messages import Received, Settled
from lowtide.bridge.pubsub import PubsubError, PubsubRefused, PubsubUnavailable


class Outside:
    """Pub/Sub and Redis."""

    def __init__(self) -> None:
        self.error: PubsubError | None = None
        self.failing = {"s"}
        self.acknowledged_ids: list[str] = []
        self.let_expire: list[str] = []

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        if self.error and subscription in self.failing:
            raise self.error
        self.acknowledged_ids += ack_ids

    def acknowledged(self, keys: Sequence[str]) -> None:
        self.let_expire += keys

    def forget(self, task_ids: Sequence[str]) -> None: ...


class World:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.outside = Outside()
        self.leases = Leases(lambda: self.now_s)
        self.leases.add([self.delivery("1"), self.delivery("2")])
        self.acker = Acker(pubsub=self.outside, records=self.outside, leases=self.leases, in_flight=InFlight())
        self.acker.put([Settled(key="s:1"), Settled(key="s:2")])

    @staticmethod
    def delivery(message_id: str, subscription: str = "s") -> Received:
        return Received(
            subscription=subscription,
            ack_id=f"ack-{message_id}",
            message_id=message_id,
            data=b"",
            attributes={},
            published_s=0.0,
        )


@pytest.fixture
def world() -> World:
    return World()


def test_what_pubsub_has_surely_forgotten_may_be_forgotten_here(world: World) -> None:
    world.acker.turn(0.0)

    assert world.outside.acknowledged_ids == ["ack-1", "ack-2"]
    assert world.outside.let_expire == ["s:1", "s:2"]
    assert (len(world.leases), len(world.acker)) == (0, 0)


def test_the_record_of_a_message_whose_lease_lapsed_stays(world: World) -> None:
    world.now_s = LEASE_S + 1
    world.leases.renewed(["s:1"], world.now_s)
    world.leases.add([world.delivery("2")])
    world.acker.turn(0.0)

    assert world.outside.acknowledged_ids == ["ack-1", "ack-2"]
    assert world.outside.let_expire == []
    assert len(world.leases) == 0


def test_the_record_of_a_message_that_was_handed_back_meanwhile_stays(world: World) -> None:
    world.leases.release(["s:1"])
    world.acker.turn(0.0)

    assert world.outside.let_expire == ["s:2"]


def test_a_refused_acknowledgement_leaves_the_records(world: World) -> None:
    world.outside.error = PubsubRefused("PERMISSION_DENIED", "no")
    world.acker.turn(0.0)

    assert world.outside.let_expire == []
    assert (len(world.leases), len(world.acker)) == (0, 0)


def test_an_acknowledgement_without_an_answer_is_tried_again(world: World) -> None:
    world.outside.error = PubsubUnavailable("UNAVAILABLE", "gone")
    world.acker.turn(0.0)

    assert world.outside.let_expire == []
    assert (len(world.leases), len(world.acker)) == (2, 2)


@pytest.mark.parametrize("error", [PubsubRefused("NOT_FOUND", "gone"), PubsubUnavailable("UNAVAILABLE", "away")])
def test_a_subscription_that_fails_keeps_no_acknowledgement_from_another(world: World, error: PubsubError) -> None:
    world.outside.error = error
    world.leases.add([world.delivery("3", "another")])
    world.acker.put([Settled(key="another:3")])
    world.acker.turn(0.0)

    assert world.outside.acknowledged_ids == ["ack-3"]
    assert world.outside.let_expire == ["another:3"]
    assert world.leases.by_subscription(["another:3"]) == {}

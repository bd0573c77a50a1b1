from collections.abc import Sequence

import pytest
from redis import RedisError

from lowtide.bridge.acknowledge import Acknowledger
from lowtide.bridge.held.held import LEASE_S, Held
from lowtide.bridge.pubsub.client import PubsubError, PubsubRefused, PubsubUnavailable
from lowtide.bridge.waits import USUAL
from tests.unit.bridge.received import received


class Outside:
    """Pub/Sub and Redis."""

    def __init__(self) -> None:
        self.error: PubsubError | None = None
        self.failing = {"s"}
        self.acknowledged_ids: list[str] = []
        self.let_expire: list[str] = []
        self.redis_is_away = False
        self.deleted: list[str] = []

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        if self.error and subscription in self.failing:
            raise self.error
        self.acknowledged_ids += ack_ids

    def acknowledged(self, keys: Sequence[str]) -> None:
        self.let_expire += keys

    def forget(self, task_ids: Sequence[str]) -> None:
        if self.redis_is_away and task_ids:
            raise RedisError("away")
        self.deleted += task_ids


class World:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.outside = Outside()
        self.held = Held(lambda: self.now_s)
        self.held.add([received("1"), received("2")])
        self.acknowledger = Acknowledger(pubsub=self.outside, records=self.outside, blobs=self.outside, held=self.held)
        self.held.to_acknowledge.put(["s:1", "s:2"])


@pytest.fixture
def world() -> World:
    return World()


def test_what_pubsub_has_surely_forgotten_may_be_forgotten_here(world: World) -> None:
    world.acknowledger.turn(0.0)

    assert world.outside.acknowledged_ids == ["ack-1", "ack-2"]
    assert world.outside.let_expire == ["s:1", "s:2"]
    assert (len(world.held), len(world.held.to_acknowledge)) == (0, 0)


def test_the_record_of_a_message_whose_lease_lapsed_stays(world: World) -> None:
    world.now_s = LEASE_S + 1
    world.held.renewed(["s:1"], world.now_s)
    world.held.add([received("2")])
    world.acknowledger.turn(0.0)

    assert world.outside.acknowledged_ids == ["ack-1", "ack-2"]
    assert world.outside.let_expire == []
    assert len(world.held) == 0


def test_the_record_of_a_message_that_was_handed_back_meanwhile_stays(world: World) -> None:
    world.held.release(["s:1"])
    world.acknowledger.turn(0.0)

    assert world.outside.let_expire == ["s:2"]


def test_a_refused_acknowledgement_leaves_the_records(world: World) -> None:
    world.outside.error = PubsubRefused("PERMISSION_DENIED", "no")
    world.acknowledger.turn(0.0)

    assert world.outside.let_expire == []
    assert (len(world.held), len(world.held.to_acknowledge)) == (0, 0)


def test_an_acknowledgement_without_an_answer_is_tried_again(world: World) -> None:
    world.outside.error = PubsubUnavailable("UNAVAILABLE", "gone")
    world.acknowledger.turn(0.0)

    assert world.outside.let_expire == []
    assert (len(world.held), len(world.held.to_acknowledge)) == (2, 2)


@pytest.mark.parametrize("error", [PubsubRefused("NOT_FOUND", "gone"), PubsubUnavailable("UNAVAILABLE", "away")])
def test_a_subscription_that_fails_keeps_no_acknowledgement_from_another(world: World, error: PubsubError) -> None:
    world.outside.error = error
    world.held.add([received("3", subscription="another")])
    world.held.to_acknowledge.put(["another:3"])
    world.acknowledger.turn(0.0)

    assert world.outside.acknowledged_ids == ["ack-3"]
    assert world.outside.let_expire == ["another:3"]
    assert world.held.ack_ids(["another:3"]) == {}


def test_what_redis_did_not_delete_is_deleted_later_though_nothing_is_acknowledged(world: World) -> None:
    world.held.to_delete.put(["b.1"])
    world.outside.redis_is_away = True
    world.acknowledger.turn(0.0)
    assert world.outside.acknowledged_ids == ["ack-1", "ack-2"]

    world.outside.redis_is_away = False
    world.acknowledger.turn(0.0)
    assert world.outside.deleted == [], "each try may keep acknowledgements waiting"
    world.now_s += USUAL.delete_again_s
    world.acknowledger.turn(0.0)
    assert world.outside.deleted == ["b.1"]

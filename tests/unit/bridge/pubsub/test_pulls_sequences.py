"""Whatever is asked, answered, refused and cancelled in whatever order: credit is kept to, and nothing is lost."""

from collections.abc import Callable
from random import Random
from typing import Any

import grpc
import pytest

from lowtide.bridge.credit import PULL_WORTH, PULLS_MAX
from lowtide.bridge.pubsub.client import PullResponse
from lowtide.bridge.pubsub.pulls import Pulls
from lowtide.bridge.waits import USUAL

RUNS = 30
STEPS = 300
FAILURES = ("NOT_FOUND", "UNAVAILABLE", "DEADLINE_EXCEEDED")

Ids = list[str]


class Call(grpc.RpcError):
    """A call as gRPC has it. `late`: what its answer brings if that comes in the moment in which it is cancelled."""

    def __init__(self, count: int, late: Callable[[], Ids]) -> None:
        self.count = count
        self.taken = False
        self._late = late
        self._code: str | None = None
        self._ids: Ids = []
        self._done: Callable[[Any], None]

    @property
    def under_way(self) -> bool:
        return self._code is None

    def end(self, code: str, ids: Ids) -> None:
        self._code, self._ids = code, ids
        self._done(self)

    def add_done_callback(self, done: Callable[[Any], None]) -> None:
        self._done = done

    def cancel(self) -> None:
        if self.under_way:
            ids = self._late()
            self.end("OK" if ids else "CANCELLED", ids)

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode[self._code or "UNKNOWN"]

    def details(self) -> str:
        return "no details"

    def result(self) -> Any:
        self.taken = True
        if self._code == "CANCELLED":
            raise grpc.FutureCancelledError
        if self._code != "OK":
            raise self
        response = PullResponse()
        for one in self._ids:
            response.received_messages.add(ack_id=one).message.message_id = one
        return response


class World:
    """A bridge's puller, Pub/Sub, and workers that take what the bridge holds."""

    def __init__(self, random: Random, *, subscriptions: int, credit: int) -> None:
        self.random, self.subscriptions, self.credit = random, subscriptions, credit
        self.now_s = 100.0
        self.calls: list[Call] = []
        self.under_way: list[Call] = []
        self.given: Ids = []
        self.taken: Ids = []
        self.held = 0
        pubsub: Any = self
        self.pulls = Pulls(pubsub, [f"s{number}" for number in range(subscriptions)], clock=lambda: self.now_s)

    def pull(self, subscription: str, count: int) -> Call:
        call = Call(count, lambda: self.give(self.random.choice([0, count])))
        self.calls.append(call)
        self.under_way.append(call)
        assert len(self.under_way) <= PULLS_MAX * self.subscriptions
        assert self.credit_is_kept_to(self.asked())
        return call

    def asked(self) -> int:
        """Until an answer is taken, what was asked for may still come."""
        return sum(call.count for call in self.calls if not call.taken)

    def credit_is_kept_to(self, asked: int) -> bool:
        """But for one message of each further subscription."""
        return asked + self.held <= self.credit + self.subscriptions - 1

    def give(self, count: int) -> Ids:
        ids = [f"{len(self.given) + number}" for number in range(count)]
        self.given += ids
        return ids

    def any_call(self) -> Call:
        return self.under_way.pop(self.random.randrange(len(self.under_way)))

    def turn(self) -> None:
        """As the puller's: what came is with workers before anything is asked for."""
        came = [message.message_id for message in self.pulls.take(0.0)]
        self.taken += came
        self.held += len(came)
        self.pulls.ask(self.credit - self.held)

    def answer(self) -> None:
        call = self.any_call()
        part = self.random.choice([0.0, 0.1, 0.5, 1.0, 1.0])
        call.end("OK", self.give(round(part * call.count)))

    def fail(self) -> None:
        self.any_call().end(self.random.choice(FAILURES), [])

    def work(self) -> None:
        self.held -= round(self.random.random() * self.held)

    def wait(self) -> None:
        self.now_s += self.random.choice([0.01, 0.1, 0.3, USUAL.refused_again_s / 5])

    def step(self) -> None:
        steps = [self.turn, self.turn, self.work, self.wait, *([self.answer, self.answer] if self.under_way else [])]
        if self.under_way and self.random.random() < 0.1:
            steps = [self.fail]
        self.random.choice(steps)()


@pytest.mark.parametrize("subscriptions", [1, 2, 3])
@pytest.mark.parametrize("credit", [1, 2, 7, 10 * PULL_WORTH + 1])
def test_credit_is_kept_to_and_nothing_that_came_is_lost(subscriptions: int, credit: int) -> None:
    most_at_once = 0
    for seed in range(RUNS):
        world = World(Random(seed), subscriptions=subscriptions, credit=credit)
        for _ in range(STEPS):
            world.step()
            most_at_once = max(most_at_once, len(world.under_way))
        world.taken += [message.message_id for message in world.pulls.cancel()]

        assert sorted(world.taken) == sorted(world.given)
        assert world.asked() == 0
    assert (most_at_once > subscriptions) == (credit > PULL_WORTH)

"""Pulls that are under way, and answers that wait."""

from concurrent.futures import Future
from datetime import UTC, datetime

from google.pubsub_v1.types import PullResponse

from lowtide.bridge.leases import LEASE_S
from lowtide.bridge.pulls import Pulls

SUBSCRIPTIONS = ("urgent", "normal")


class Pubsub:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: dict[str, Future] = {}

    def pull(self, subscription: str, count: int) -> Future:
        self.asked[subscription] = Future()
        return self.asked[subscription]

    def answer(self, subscription: str) -> None:
        message = {"message_id": "1", "data": b"x", "publish_time": datetime.now(UTC)}
        response = PullResponse(received_messages=[{"ack_id": "a", "message": message}])
        self.asked[subscription].set_result(PullResponse.pb(response))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_an_answer_that_waited_for_longer_than_its_leases_brings_nothing() -> None:
    for waited_s, brings in ((LEASE_S, ["1"]), (LEASE_S + 0.1, [])):
        pubsub, clock = Pubsub(), Clock()
        pulls = Pulls(pubsub, SUBSCRIPTIONS, clock=clock)
        pulls.ask(10)
        pubsub.answer("urgent")
        clock.now_s += waited_s
        taken = pulls.take(0.0)

        assert taken is not None
        assert [message.message_id for message in taken] == brings
        assert pulls.take(0.0) is None

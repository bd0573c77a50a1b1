from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from lowtide.bridge.acker import Acker
from lowtide.bridge.flight import InFlight
from lowtide.bridge.leaser import Leaser
from lowtide.bridge.leases import LOOK_VALID_S, Leases
from lowtide.bridge.messages import Ending, Letter, Received, Translated
from lowtide.bridge.records import Claim
from lowtide.bridge.settle import Settler
from lowtide.tasks.wire import InferenceRequest


class Outside:
    """Pub/Sub and Redis."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.handed_back: list[tuple[str, int]] = []
        self.recorded: list[str] = []

    def publish(self, topic: str, messages: Sequence[Any]) -> None:
        self.published += [message.data for message in messages]

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        self.handed_back += [(ack_id, lease_s) for ack_id in ack_ids]

    def claim(self, keys: Sequence[str]) -> list[Claim]:
        return [Claim.OURS for _ in keys]

    def done(self, keys: Sequence[str]) -> None:
        self.recorded += keys


def received(message_id: str) -> Received:
    return Received(
        subscription="s", ack_id=f"ack-{message_id}", message_id=message_id, data=b"", attributes={}, published_s=0.0
    )


def ending(message_id: str) -> Ending:
    letter = Letter(topic="t", data=f"result of {message_id}".encode(), attributes={})
    return Ending(received=received(message_id), letter=letter, request_id="r", tries=0, task_id="b.1")


def test_what_another_bridge_may_have_published_long_ago_is_handed_back() -> None:
    """Its record lives for ten minutes, and this bridge has not looked for nine."""
    outside, now = Outside(), SimpleNamespace(s=0.0)
    leases, in_flight = Leases(lambda: now.s), InFlight()
    acker = Acker(pubsub=outside, records=outside, leases=leases, in_flight=in_flight)
    settler = Settler(
        pubsub=outside,
        records=outside,
        acker=acker,
        leaser=Leaser(outside, leases),
        leases=leases,
        dead_letter_topic="dead",
        in_flight=in_flight,
        clock=lambda: now.s,
    )
    leases.add([received("old")])
    now.s = LOOK_VALID_S + 1
    leases.add([received("new")])
    item = Translated(received=received("old"), request=InferenceRequest(model="a", uri="u"), reply_topic="t")
    in_flight.launch("b.1", [item, item])
    in_flight.land("b.1")

    settler.put([ending("old"), ending("new")])
    settler.turn(0.0)

    assert outside.published == [b"result of new"]
    assert outside.recorded == ["s:new"]
    assert outside.handed_back == [("ack-old", 0)]
    assert leases.keys() == ["s:new"]
    assert in_flight.settled(["b.1"]) == ["b.1"]  # the old one counts as settled: the new one was the last

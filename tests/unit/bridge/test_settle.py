from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis import RedisError

from lowtide.bridge.held.held import LOOK_VALID_S, Held
from lowtide.bridge.held.leaser import Leaser
from lowtide.bridge.held.records import Claim
from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import Ending, OutgoingMessage, SilentEnding, Translated
from lowtide.bridge.pubsub.client import PubsubRefused, PubsubUnavailable
from lowtide.bridge.settle import Settler
from lowtide.bridge.waits import Waits
from lowtide.config import load_settings
from lowtide.tasks.wire.request import InferenceRequest
from tests.unit.bridge.received import received


class Outside:
    """Pub/Sub and Redis."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.publishes = 0
        self.errors: list[Exception | None] = []
        """What the next publishes raise."""
        self.redis_is_away = False
        self.handed_back: list[tuple[str, int]] = []
        self.recorded: list[str] = []

    def publish(self, topic: str, messages: Sequence[Any]) -> None:
        self.publishes += 1
        if self.errors and (error := self.errors.pop(0)):
            raise error
        self.published += [message.data for message in messages]

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        self.handed_back += [(ack_id, lease_s) for ack_id in ack_ids]

    def claim(self, keys: Sequence[str]) -> list[Claim]:
        return [Claim.OURS for _ in keys]

    def done(self, keys: Sequence[str]) -> None:
        if self.redis_is_away:
            raise RedisError("gone")
        self.recorded += keys


def ending(message_id: str, topic: str = "t") -> Ending:
    outgoing = OutgoingMessage(topic=topic, data=f"result of {message_id}".encode(), attributes={})
    return Ending(received=received(message_id), outgoing=outgoing, request_id="r", tries=0)


def settler_of(outside: Any, held: Held, **given: Any) -> Settler:
    return Settler(
        pubsub=outside,
        records=outside,
        held=held,
        leaser=Leaser(pubsub=outside, held=held),
        endings=Endings(load_settings(project="p")),
        waits=Waits(again_s=0.01),
        **given,
    )


def test_what_another_bridge_may_have_published_long_ago_is_handed_back() -> None:
    """Its record lives for ten minutes, and this bridge has not looked for nine."""
    outside, now = Outside(), SimpleNamespace(s=0.0)
    held = Held(lambda: now.s)
    settler = settler_of(outside, held, clock=lambda: now.s)
    held.add([received("old"), received("last")])
    now.s = LOOK_VALID_S + 1
    held.add([received("new")])
    for task_id, names in {"b.1": ["old", "new"], "b.2": ["last"]}.items():
        request = InferenceRequest(model="a", uri="u")
        held.sent(task_id, [Translated(received=received(one), request=request, reply_topic="t") for one in names])
        held.answered(task_id)

    held.to_settle.put([ending("old"), ending("new"), ending("last")])
    settler.turn(0.0)

    assert outside.published == [b"result of new"]
    assert outside.recorded == ["s:new"]
    assert outside.handed_back == [("ack-old", 0), ("ack-last", 0)]
    assert held.keys() == ["s:new"]
    held.release(["s:new"])
    with held.to_delete.take(2, timeout_s=0.0) as chunks:
        assert chunks == ["b.2", "b.1"], "the old one counts as released: the new one was the last"


AWAY = PubsubUnavailable("DEADLINE_EXCEEDED", "no answer")
ONE_IS_TO_BLAME = PubsubRefused("INVALID_ARGUMENT", "one of them")


@pytest.mark.parametrize(
    ("errors", "publishes"), [([AWAY], 1), ([ONE_IS_TO_BLAME, AWAY], 2), ([None, ONE_IS_TO_BLAME, None, AWAY], 4)]
)
def test_a_pubsub_that_is_away_ends_the_turn_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, errors: list[Exception | None], publishes: int
) -> None:
    """Each publish may take fifteen seconds: all of a bulk, and the bridge would count as stuck."""
    outside, held = Outside(), Held()
    outside.errors = list(errors)
    endings = [ending(f"{topic}{number}", topic) for topic in "abc" for number in range(2)]
    held.add([one.received for one in endings])
    settler = settler_of(outside, held)

    held.to_settle.put(endings)
    settler.turn(0.0)
    assert outside.publishes == publishes
    assert len(held.to_settle) == 6 - len(outside.published)

    while len(held.to_settle):
        settler.turn(1.0)
    assert sorted(outside.published) == sorted(one.outgoing.data for one in endings)


def test_a_redis_that_is_away_ends_the_turn_after_the_publish_that_it_did_not_record() -> None:
    outside, held = Outside(), Held()
    endings = [ending(topic, topic) for topic in "abc"]
    held.add([one.received for one in endings])
    settler = settler_of(outside, held)

    outside.redis_is_away = True
    held.to_settle.put(endings)
    settler.turn(0.0)

    assert (outside.publishes, len(held.to_settle)) == (1, 2)


def test_a_topic_that_alone_is_ill_does_not_hold_up_the_others() -> None:
    outside, held = Outside(), Held()
    outside.errors = [AWAY]
    endings = [ending(topic, topic) for topic in "abc"]
    held.add([one.received for one in endings])
    settler = settler_of(outside, held)

    held.to_settle.put(endings)
    settler.turn(0.0)
    settler.turn(0.0)

    assert outside.published == [b"result of b", b"result of c"]


def test_outgoing_messages_that_wait_are_counted_in_bytes_until_they_are_published() -> None:
    outside, held = Outside(), Held()
    outside.errors = [AWAY]
    dead = replace(received("3"), data=b"of the message itself")
    endings = [
        ending("1"),
        ending("2"),
        replace(ending("3"), received=dead, outgoing=OutgoingMessage(topic="dead", data=dead.data, attributes={})),
    ]
    held.add([one.received for one in endings])
    settler = settler_of(outside, held)
    held.to_settle.put(endings)
    assert held.to_settle.weight == len(b"result of 1" + b"result of 2")

    settler.turn(0.0)
    assert held.to_settle.weight == len(b"result of 1" + b"result of 2")
    while len(held.to_settle):
        settler.turn(1.0)
    assert held.to_settle.weight == 0


def test_what_asks_for_nothing_is_recorded_counted_and_acknowledged_and_not_published() -> None:
    outside, held = Outside(), Held()
    silent = [SilentEnding(received=received(why), why=why) for why in ("deleted", "folder")]
    held.add([received("1"), *(one.received for one in silent)])
    settler = settler_of(outside, held)

    held.to_settle.put([*silent, ending("1")])
    settler.turn(0.0)

    assert outside.published == [b"result of 1"]
    assert sorted(outside.recorded) == ["s:1", "s:deleted", "s:folder"]
    assert settler.ignored == {"deleted": 1, "folder": 1}


def test_without_its_record_what_asks_for_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    outside, held = Outside(), Held()
    silent = SilentEnding(received=received("1"), why="deleted")
    held.add([silent.received])
    settler = settler_of(outside, held)

    outside.redis_is_away = True
    held.to_settle.put([silent])
    settler.turn(0.0)
    assert (len(held.to_settle), outside.recorded, settler.ignored) == (1, [], {})

    outside.redis_is_away = False
    while len(held.to_settle):
        settler.turn(1.0)
    assert (outside.recorded, settler.ignored) == (["s:1"], {"deleted": 1})

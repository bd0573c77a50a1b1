from collections.abc import Sequence
from typing import Any

import pytest

from lowtide.bridge.leaser import Leaser
from lowtide.bridge.leases import Leases
from lowtide.bridge.messages import Received
from lowtide.bridge.pubsub import PubsubError, PubsubRefused, PubsubUnavailable


def received(subscription: str) -> Received:
    return Received(subscription=subscription, ack_id="a", message_id="1", data=b"", attributes={}, published_s=0.0)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (PubsubUnavailable("DEADLINE_EXCEEDED", "no answer"), ["one"]),
        (PubsubRefused("NOT_FOUND", "gone"), ["one", "two"]),
    ],
    ids=["away", "refused"],
)
def test_a_pubsub_that_is_away_is_asked_once_to_take_messages_back(error: PubsubError, asked: list[str]) -> None:
    """Each call may take ten seconds, and all of them together longer than a turn may."""
    calls: list[str] = []

    class Outside:
        def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
            calls.append(subscription)
            raise error

    outside: Any = Outside()
    leases = Leases()
    leases.add([received("one"), received("two")])
    Leaser(outside, leases).hand_back(leases.keys())

    assert calls == asked
    assert leases.keys() == []

from collections.abc import Sequence
from typing import Any

import pytest

from lowtide.bridge.held.held import Held
from lowtide.bridge.held.leaser import RENEW_AGE_S, Leaser
from lowtide.bridge.pubsub.client import PubsubError, PubsubRefused, PubsubUnavailable
from tests.unit.bridge.received import received


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
    held = Held()
    held.add([received(subscription="one"), received(subscription="two")])
    Leaser(pubsub=outside, held=held).hand_back(held.keys())

    assert calls == asked
    assert held.keys() == []


def test_a_subscription_that_refuses_is_told_of_once_while_another_is_served(caplog: pytest.LogCaptureFixture) -> None:
    class Outside:
        def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
            if subscription == "one":
                raise PubsubRefused("NOT_FOUND", "gone")

    outside: Any = Outside()
    now_s = 0.0
    held = Held(lambda: now_s)
    held.add([received(subscription="one"), received(subscription="two")])
    leaser = Leaser(pubsub=outside, held=held, clock=lambda: now_s)
    for _ in range(5):
        now_s += RENEW_AGE_S
        leaser.turn()

    assert [record.message for record in caplog.records if "trying on" in record.message] == [
        "can't change leases of one: trying on: NOT_FOUND: gone"
    ]

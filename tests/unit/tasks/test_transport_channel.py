from types import SimpleNamespace

import pytest

from lowtide.tasks.transport.channel import QoS
from lowtide.tasks.transport.ledger import Held, Ledger

HELD = Held(incarnation="1", tag="a", task="t", model="m", requests=1)


@pytest.fixture
def ended() -> QoS:
    """Of a channel that has given back what it held."""
    qos = QoS.__new__(QoS)
    ledger = Ledger()
    ledger.add(HELD)
    ledger.settle(HELD.delivery, done=False)
    qos.channel = SimpleNamespace(closed=True, station=SimpleNamespace(ledger=ledger))
    return qos


def test_what_is_acknowledged_after_its_channel_ended_stays_given_back(ended: QoS) -> None:
    ended.ack(HELD.delivery)
    ended.reject(HELD.delivery, requeue=True)
    assert ended.channel.station.ledger.settled().back == (HELD,)

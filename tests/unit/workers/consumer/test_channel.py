from types import SimpleNamespace

import pytest

from lowtide.tasks.held.ledger import HeldTask, Ledger
from lowtide.workers.consumer.channel import QoS

HELD = HeldTask(incarnation="1", tag="a", task="t", model="m", requests=1)


@pytest.fixture
def ended() -> QoS:
    """Of a channel that has handed back what it held."""
    qos = QoS.__new__(QoS)
    ledger = Ledger()
    ledger.add(HELD)
    ledger.release(HELD.delivery, done=False)
    qos.channel = SimpleNamespace(closed=True, session=SimpleNamespace(ledger=ledger))
    return qos


def test_what_is_acknowledged_after_its_channel_ended_stays_handed_back(ended: QoS) -> None:
    ended.ack(HELD.delivery)
    ended.reject(HELD.delivery, requeue=True)
    assert ended.channel.session.ledger.released().back == (HELD,)

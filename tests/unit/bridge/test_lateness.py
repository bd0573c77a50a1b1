from datetime import UTC, datetime

from lowtide.bridge.held.held import SentChunk
from lowtide.bridge.lateness import Lateness, lateness
from lowtide.bridge.messages.kinds import Translated
from lowtide.tasks.chunks.packing import Packing
from lowtide.tasks.wire.request import InferenceRequest
from tests.unit.bridge.received import received

NOW_S = 1_800_000_000.0
PACKING = Packing(rates_s={"slow": 1.0, "fast": 0.1})


def chunk(
    *, sent_s: float, model: str = "slow", published_s: float = NOW_S, expires: tuple[float | None, ...]
) -> SentChunk:
    message = received(published_s=published_s)
    requests = [
        InferenceRequest(
            model=model, uri="file:///x", expires_at=None if in_s is None else datetime.fromtimestamp(NOW_S + in_s, UTC)
        )
        for in_s in expires
    ]
    items = tuple(Translated(received=message, request=request, reply_topic="t") for request in requests)
    return SentChunk(task_id=str(sent_s), items=items, sent_s=sent_s)


def test_without_requests_nothing_waits_and_nothing_is_late() -> None:
    assert lateness([], packing=PACKING, workers=0, now_s=NOW_S) == Lateness(oldest_at=None, at_risk=0)


def test_the_oldest_is_told() -> None:
    chunks = [
        chunk(sent_s=2, published_s=NOW_S - 50, expires=(None,)),
        chunk(sent_s=1, model="fast", published_s=NOW_S - 90, expires=(None, None)),
    ]

    seen = lateness(chunks, packing=PACKING, workers=1, now_s=NOW_S)

    assert seen == Lateness(oldest_at=NOW_S - 90, at_risk=0)


def test_a_deadline_is_at_risk_when_what_was_sent_before_takes_longer() -> None:
    chunks = [chunk(sent_s=2, expires=(3.5,)), chunk(sent_s=1, expires=(None, None, None))]

    assert lateness(chunks, packing=PACKING, workers=1, now_s=NOW_S).at_risk == 1
    assert lateness(chunks, packing=PACKING, workers=0, now_s=NOW_S).at_risk == 1
    assert lateness(chunks, packing=PACKING, workers=2, now_s=NOW_S).at_risk == 0


def test_what_is_behind_a_request_puts_it_at_no_risk() -> None:
    chunks = [chunk(sent_s=1, expires=(1.5,)), chunk(sent_s=2, expires=(None, None, None))]

    assert lateness(chunks, packing=PACKING, workers=1, now_s=NOW_S).at_risk == 0

from collections.abc import Iterable, Sequence
from typing import Any

from redis import RedisError

from lowtide.bridge.collect import Collector
from lowtide.bridge.flight import InFlight
from lowtide.bridge.leaser import Leaser
from lowtide.bridge.leases import Leases
from lowtide.bridge.messages import Received, Translated
from lowtide.tasks.chunks import ChunkResult
from lowtide.tasks.wire import InferenceRequest, Outcome


class Outside:
    """Pub/Sub, and a Redis that goes away after it has counted the tries."""

    def __init__(self) -> None:
        self.results: list[ChunkResult] = []
        self.handed_back: list[str] = []

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        self.handed_back += ack_ids

    def take(self, timeout_s: float) -> list[ChunkResult]:
        results, self.results = self.results, []
        return results

    def forgot(self) -> bool:
        return False

    def count_tries(self, keys: Sequence[Any]) -> list[int]:
        return [1] * len(keys)

    def forget(self, task_ids: Sequence[str]) -> None:
        raise RedisError("gone")

    def put(self, endings: Iterable[Any]) -> None:
        assert list(endings) == []


def translated(message_id: str) -> Translated:
    received = Received(
        subscription="s", ack_id=message_id, message_id=message_id, data=b"", attributes={}, published_s=0.0
    )
    return Translated(received=received, request=InferenceRequest(model="digits", data=b"1"), reply_topic="t")


def test_every_retry_is_handed_back_though_redis_goes_away_in_between() -> None:
    """Dropped, they would be leased for as long as the bridge lives, and never end."""
    outside, in_flight, leases = Outside(), InFlight(), Leases()
    collector: Any = Collector(
        results=outside,
        sender=None,
        in_flight=in_flight,
        records=outside,
        leaser=Leaser(outside, leases),
        settler=outside,
        endings=None,
    )
    items = [translated(f"m{index}") for index in range(3)]
    leases.add([item.received for item in items])
    for index, item in enumerate(items):
        in_flight.launch(f"c{index}", [item])
        again = Outcome.failed("unavailable", "503", retry=True)
        outside.results.append(ChunkResult(task_id=f"c{index}", outcomes=(again,)))
    collector.turn(0.0)
    assert sorted(outside.handed_back) == ["m0", "m1", "m2"]
    assert len(collector) == 0

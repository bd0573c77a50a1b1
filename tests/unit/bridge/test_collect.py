from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from lowtide.bridge import collect
from lowtide.bridge.collect import Collector
from lowtide.bridge.flight import InFlight
from lowtide.bridge.leaser import Leaser
from lowtide.bridge.leases import Leases
from lowtide.bridge.messages import Received, Translated
from lowtide.bridge.records import Records
from lowtide.tasks.blob import NEWS
from lowtide.tasks.chunks import Chunk, ChunkResult, read_result
from lowtide.tasks.keys import Keys
from lowtide.tasks.wire import InferenceRequest, Outcome

AGAIN = Outcome.failed("unavailable", "503", retry=True)


class Outside:
    """Pub/Sub, and a Redis that goes away after it has counted the tries."""

    def __init__(self) -> None:
        self.results: list[ChunkResult] = []
        self.calls: list[tuple[int, list[str]]] = []
        self.steps: list[str] = []
        self.sent: list[Chunk] = []
        self.away = False
        self.forgotten: list[str] = []

    @property
    def handed_back(self) -> list[str]:
        return [ack_id for _, ack_ids in self.calls for ack_id in ack_ids]

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        self.calls.append((lease_s, list(ack_ids)))

    def send(self, chunks: Sequence[Chunk], *, again: bool, within_task: bool) -> None:
        self.steps.append("send")
        if self.away:
            raise RedisError("gone")
        assert (again, within_task) == (True, True)
        self.sent += chunks

    def expect_again(self, task_ids: Sequence[str]) -> None:
        self.steps.append("expect")

    def take(self, timeout_s: float) -> list[ChunkResult]:
        results, self.results = self.results, []
        return results

    def forgot(self) -> bool:
        return False

    def count_tries(self, keys: Sequence[str], *, before: Sequence[int]) -> list[int]:
        assert list(before) == [int(key[-1]) % 3 for key in keys]
        return [tries + 1 for tries in before]

    def forget(self, task_ids: Sequence[str]) -> None:
        self.forgotten += task_ids
        nobody = Redis(port=1, retry=Retry(NoBackoff(), 0))
        Records(nobody, Keys(""), bridge="b").forget(task_ids)

    def put(self, endings: Iterable[Any]) -> None:
        assert list(endings) == []


def translated(message_id: str) -> Translated:
    received = Received(
        subscription="s", ack_id=message_id, message_id=message_id, data=b"", attributes={}, published_s=0.0
    )
    request = InferenceRequest(model="digits", data="MQ==")
    return Translated(received=received, request=request, reply_topic="t", tries=int(message_id[-1]) % 3)


def collector_of(outside: Outside, *, results: int, outcome: Outcome | None) -> Collector:
    """One that learns so many results of a chunk each; without an outcome, results that it can't read."""
    in_flight, leases = InFlight(), Leases()
    parts: Any = outside
    for index in range(results):
        item = translated(f"m{index}")
        leases.add([item.received])
        in_flight.launch(f"c{index}", [item])
        read = {"outcomes": (outcome,)} if outcome else {"unreadable": "new"}
        outside.results.append(ChunkResult(task_id=f"c{index}", **read))
    return Collector(
        results=parts,
        sender=parts,
        in_flight=in_flight,
        records=parts,
        leaser=Leaser(parts, leases),
        settler=parts,
        endings=parts,
    )


def test_every_retry_is_handed_back_though_redis_goes_away_in_between() -> None:
    """Dropped, they would be leased for as long as the bridge lives, and never end."""
    outside = Outside()
    collector = collector_of(outside, results=3, outcome=AGAIN)
    collector.turn(0.0)

    assert sorted(outside.handed_back) == ["m0", "m1", "m2"]
    assert len(collector) == 0


def test_retries_are_handed_back_in_one_call_for_each_backoff() -> None:
    """A Pub/Sub that does not answer costs a call's time for each of them, and a long turn costs the bridge."""
    outside = Outside()
    collector_of(outside, results=7, outcome=AGAIN).turn(0.0)

    assert sorted(outside.calls) == [(10, ["m0", "m3", "m6"]), (30, ["m1", "m4"]), (90, ["m2", "m5"])]


def test_messages_of_results_that_cannot_be_read_are_handed_back_in_one_call() -> None:
    outside = Outside()
    collector_of(outside, results=3, outcome=None).turn(0.0)

    assert outside.calls == [(60, ["m0", "m1", "m2"])]


def test_chunks_whose_content_was_lost_are_sent_again_with_it_until_redis_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Uncounted, and in flight all the time: else a stop would hand them back, and an emptied Redis not be answered."""
    monkeypatch.setattr(collect, "AGAIN_S", 0.0)
    outside = Outside()
    collector = collector_of(outside, results=2, outcome=AGAIN)
    outside.results = [read_result(result.task_id, NEWS) for result in outside.results]
    outside.away = True
    collector.turn(0.0)
    outside.away = False
    collector.turn(0.0)
    collector.turn(0.0)

    assert sorted(chunk.task_id for chunk in outside.sent) == ["c0", "c1"]
    assert outside.steps == ["send", "send", "expect"]
    assert (len(collector), outside.calls) == (0, [])
    assert len(collector._in_flight) == 2

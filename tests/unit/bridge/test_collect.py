from collections.abc import Sequence
from typing import Any

from lowtide.bridge.collect import Collector
from lowtide.bridge.held.held import Held
from lowtide.bridge.held.leaser import Leaser
from lowtide.bridge.messages.kinds import Translated
from lowtide.tasks.chunks.results import ChunkResult
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest
from tests.unit.bridge.received import received

AGAIN = Outcome.failed("unavailable", "503", retry=True)


class Outside:
    """Pub/Sub, and what counts the tries."""

    def __init__(self) -> None:
        self.results: list[ChunkResult] = []
        self.calls: list[tuple[int, list[str]]] = []
        self.tended = 0

    @property
    def handed_back(self) -> list[str]:
        return [ack_id for _, ack_ids in self.calls for ack_id in ack_ids]

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        self.calls.append((lease_s, list(ack_ids)))

    def take(self, timeout_s: float) -> list[ChunkResult]:
        results, self.results = self.results, []
        return results

    def tend(self) -> None:
        self.tended += 1

    def count_tries(self, keys: Sequence[str], *, before: Sequence[int]) -> list[int]:
        assert list(before) == [int(key[-1]) % 3 for key in keys]
        return [tries + 1 for tries in before]


def translated(message_id: str) -> Translated:
    request = InferenceRequest(model="digits", data="MQ==")
    message = received(message_id, ack_id=message_id)
    return Translated(received=message, request=request, reply_topic="t", tries=int(message_id[-1]) % 3)


def collector_of(outside: Outside, held: Held, *, results: int, outcome: Outcome | None) -> Collector:
    """One that learns so many results of a chunk each; without an outcome, results that it can't read."""
    parts: Any = outside
    for index in range(results):
        item = translated(f"m{index}")
        held.add([item.received])
        held.sent(f"c{index}", [item])
        read = {"outcomes": (outcome,)} if outcome else {"unreadable": "new"}
        outside.results.append(ChunkResult(task_id=f"c{index}", **read))
    leaser = Leaser(pubsub=parts, held=held)
    return Collector(dispatch=parts, held=held, records=parts, leaser=leaser, endings=parts)


def test_every_retry_is_handed_back_and_its_chunk_deleted() -> None:
    """Dropped, they would be leased for as long as the bridge lives, and never end."""
    outside, held = Outside(), Held()
    collector_of(outside, held, results=3, outcome=AGAIN).turn(0.0)

    assert sorted(outside.handed_back) == ["m0", "m1", "m2"]
    assert (len(held.to_try_again), outside.tended) == (0, 1)
    with held.to_delete.take(10, timeout_s=0.0) as chunks:
        assert sorted(chunks) == ["c0", "c1", "c2"]


def test_retries_are_handed_back_in_one_call_for_each_backoff() -> None:
    """A Pub/Sub that does not answer costs a call's time for each of them, and a long turn costs the bridge."""
    outside = Outside()
    collector_of(outside, Held(), results=7, outcome=AGAIN).turn(0.0)

    assert sorted(outside.calls) == [(10, ["m0", "m3", "m6"]), (30, ["m1", "m4"]), (90, ["m2", "m5"])]


def test_messages_of_results_that_cannot_be_read_are_handed_back_in_one_call() -> None:
    outside = Outside()
    collector_of(outside, Held(), results=3, outcome=None).turn(0.0)

    assert outside.calls == [(60, ["m0", "m1", "m2"])]

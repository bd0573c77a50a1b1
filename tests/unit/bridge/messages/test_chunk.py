from typing import Any

from lowtide.bridge.flow_control import RecentSizes
from lowtide.bridge.messages.chunk import chunks_of, to_chunk
from lowtide.bridge.messages.kinds import Translated
from lowtide.tasks.chunks.packing import Packing
from lowtide.tasks.wire.request import InferenceRequest
from tests.unit.bridge.received import received


def item(index: int, model: str = "a", published_s: float = 0.0, **fields: Any) -> Translated:
    fields = fields if "data" in fields else {"uri": f"gs://b/{index}", **fields}
    message = received(str(index), b"12345678", published_s=published_s)
    return Translated(received=message, request=InferenceRequest(model=model, **fields), reply_topic="t")


def ids(chunks: Any) -> list[list[str]]:
    return [[one.received.message_id for one in chunk] for chunk in chunks]


def test_requests_of_one_model_travel_together_high_priority_first() -> None:
    arrived = [item(0), item(1, "b"), item(2, priority="high"), item(3), item(4, "b")]

    assert ids(chunks_of(arrived, Packing())) == [["2"], ["0", "3"], ["1", "4"]]


def test_a_full_normal_chunk_does_not_overtake_a_half_full_urgent_one() -> None:
    arrived = [item(0), item(1), item(2), item(3, priority="high")]

    assert ids(chunks_of(arrived, Packing(max_requests=2))) == [["3"], ["0", "1"], ["2"]]


def test_a_chunk_holds_as_much_work_as_the_measured_rate_allows() -> None:
    packing = Packing(max_work_s=0.1, rates_s={"a": 0.05, "b": 3.0})
    arrived = [item(index, "ab"[index % 2]) for index in range(8)]

    assert sorted(map(len, chunks_of(arrived, packing))) == [1, 1, 1, 1, 2, 2]


def test_a_request_over_the_byte_limit_travels_alone() -> None:
    arrived = [item(index, data="AAAA" * size) for index, size in enumerate((1, 1500, 1))]

    assert ids(chunks_of(arrived, Packing(max_bytes=4000))) == [["0"], ["1"], ["2"]]


def test_a_chunk_says_what_workers_must_know_and_nothing_else() -> None:
    chunk = to_chunk("b.1", [item(7, reply_topic="r", request_id="id", params={"k": 1})])

    assert (chunk.task_id, chunk.queue) == ("b.1", "lowtide.a.topic")
    assert chunk.requests == ({"model": "a", "uri": "gs://b/7", "params": {"k": 1}, "request_id": "id"},)


def test_sizes_follow_what_comes() -> None:
    packing = Packing(max_work_s=0.1, rates_s={"a": 0.001, "b": 0.01})
    sizes = RecentSizes(["a", "b"])
    assert sizes.chunk_requests(packing) == 10  # nothing known: as if all were for the slowest model

    sizes.saw([item(index) for index in range(200)], packing)
    assert round(sizes.chunk_requests(packing)) == 100
    assert 24 <= sizes.message_bytes < 25  # with what frames it
    sizes.saw([item(index, "b") for index in range(200)], packing)
    assert round(sizes.chunk_requests(packing)) == 10


def test_a_chunk_is_as_old_as_its_oldest_request() -> None:
    assert to_chunk("t", [item(0, published_s=30.0), item(1, published_s=10.0)]).sent_at == 10.0

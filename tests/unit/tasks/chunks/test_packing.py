from itertools import count, islice

import pytest

from lowtide.tasks import InferenceRequest
from lowtide.tasks.chunks.packing import ENVELOPE_BYTES, Packing, pack, weight_bytes


def request(model: str = "m", **fields: object) -> InferenceRequest:
    return InferenceRequest.parse({"model": model, "uri": "gs://b/o", **fields})


def sizes(requests: list[InferenceRequest], packing: Packing) -> list[int]:
    return [len(chunk) for chunk in pack(requests, request_of=lambda item: item, packing=lambda: packing)]


def test_a_chunk_holds_at_most_so_many_requests() -> None:
    assert sizes([request()] * 10, Packing(max_requests=4)) == [4, 4, 2]


def test_a_chunk_holds_at_most_so_much_work() -> None:
    assert sizes([request()] * 25, Packing(rates_s={"m": 0.01})) == [10, 10, 5]


def test_a_request_slower_than_a_chunk_may_be_travels_alone() -> None:
    assert sizes([request()] * 2, Packing(rates_s={"m": 3.0})) == [1, 1]


def test_a_request_larger_than_a_chunk_may_be_travels_alone() -> None:
    small, large = request(uri=None, data="aaaa" * 4), request(uri=None, data="aaaa" * 1500)
    limit = Packing(max_bytes=3 * (ENVELOPE_BYTES + 12))

    assert sizes([small, large, small, small, small, small], limit) == [1, 1, 3, 1]


@pytest.mark.parametrize("fields", [{"params": {"prompt": "a" * 5000}}, {"traceparent": "a" * 5000}])
def test_whatever_makes_a_request_large_counts(fields: dict[str, object]) -> None:
    assert sizes([request(**fields)] * 3, Packing(max_bytes=6000)) == [1, 1, 1]


def test_models_and_priorities_travel_apart() -> None:
    requests = [request("a"), request("b"), request("a", priority="high"), request("a")]
    chunks = list(pack(requests, request_of=lambda item: item, packing=Packing))

    assert [[(r.model, r.priority) for r in chunk] for chunk in chunks] == [
        [("b", "normal")],
        [("a", "high")],
        [("a", "normal"), ("a", "normal")],
    ]


def test_what_older_workers_cannot_read_travels_apart() -> None:
    requests = [request(), request(generation=17), request(), request(uri=None, data="aaaa")]
    chunks = pack(requests, request_of=lambda item: item, packing=Packing)

    assert [[(r.wire_version, r.data) for r in chunk] for chunk in chunks] == [
        [(2, None)],
        [(1, None), (1, None)],
        [(1, "aaaa")],
    ]


def test_content_counts_as_it_is_and_not_as_base64() -> None:
    content = request(uri=None, data="aaaa" * 1000)

    assert weight_bytes(content) == weight_bytes(content.unpacked()) - 2 == ENVELOPE_BYTES + 3000 - 2


def test_packing_takes_no_more_than_the_chunk_needs() -> None:
    taken = count()
    stream = (request() for _ in iter(lambda: next(taken), None))

    assert [
        len(c) for c in islice(pack(stream, request_of=lambda item: item, packing=lambda: Packing(max_requests=3)), 2)
    ] == [
        3,
        3,
    ]
    assert next(taken) == 6


def test_a_stream_follows_what_is_measured_meanwhile() -> None:
    rates_s: dict[str, float] = {}
    chunks = pack(
        (request() for _ in range(200)), request_of=lambda item: item, packing=lambda: Packing(rates_s=rates_s)
    )

    assert len(next(chunks)) == 20
    rates_s["m"] = 0.05
    assert len(next(chunks)) == 2

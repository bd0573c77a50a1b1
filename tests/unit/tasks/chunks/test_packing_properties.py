from collections import defaultdict
from itertools import chain, pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from lowtide.bridge.messages.chunk import chunks_of
from lowtide.bridge.messages.kinds import Received, Translated
from lowtide.tasks.chunks.packing import ENVELOPE_BYTES, Packing, pack, weight_bytes
from lowtide.tasks.wire.request import InferenceRequest, Priority

REQUESTS = st.builds(
    InferenceRequest,
    model=st.sampled_from("abc"),
    priority=st.sampled_from(Priority),
    data=st.integers(0, 750).map(lambda size: "xxxx" * size),
)
PACKINGS = st.builds(
    Packing,
    max_requests=st.integers(1, 6),
    max_bytes=st.integers(1, 6 * ENVELOPE_BYTES),
    max_work_s=st.floats(1e-6, 1),
    rates_s=st.dictionaries(st.sampled_from("abc"), st.floats(0, 2)),
)


def kind(request: InferenceRequest) -> tuple[str, str]:
    return request.model, request.priority


@given(requests=st.lists(REQUESTS, max_size=40), packing=PACKINGS)
def test_each_request_is_in_one_chunk_in_the_order_of_its_kind(
    requests: list[InferenceRequest], packing: Packing
) -> None:
    numbered = list(enumerate(requests))
    chunks = list(pack(numbered, request_of=lambda item: item[1], packing=lambda: packing))

    assert sorted(number for number, _ in chain(*chunks)) == list(range(len(requests)))
    orders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for chunk in chunks:
        (one_kind,) = {kind(request) for _, request in chunk}
        orders[one_kind] += [number for number, _ in chunk]
    assert all(order == sorted(order) for order in orders.values())


@given(requests=st.lists(REQUESTS, max_size=40), packing=PACKINGS)
@example(requests=[InferenceRequest(model="a", uri="u")] * 3, packing=Packing(rates_s={"a": 1e-313}))
def test_no_chunk_is_over_its_bounds_but_a_request_that_is_so_alone(
    requests: list[InferenceRequest], packing: Packing
) -> None:
    for chunk in pack(requests, request_of=lambda request: request, packing=lambda: packing):
        assert len(chunk) <= packing.max_requests
        if len(chunk) > 1:
            assert len(chunk) * packing.rates_s.get(chunk[0].model, 0.0) <= packing.max_work_s
            assert sum(map(weight_bytes, chunk)) <= packing.max_bytes


@given(requests=st.lists(REQUESTS, max_size=40), packing=PACKINGS)
def test_a_chunk_ends_for_a_reason(requests: list[InferenceRequest], packing: Packing) -> None:
    """The next request of its kind did not fit any more."""
    chunks: dict[tuple[str, str], list[list[InferenceRequest]]] = defaultdict(list)
    for chunk in pack(requests, request_of=lambda request: request, packing=lambda: packing):
        chunks[kind(chunk[0])].append(chunk)

    for ordered in chunks.values():
        for chunk, following in pairwise(ordered):
            size = sum(map(weight_bytes, chunk))
            full = len(chunk) >= packing.room_for(chunk[0].model) or size >= packing.max_bytes
            assert full or size + weight_bytes(following[0]) > packing.max_bytes


@given(requests=st.lists(REQUESTS, max_size=40), packing=PACKINGS)
def test_a_bridge_sends_what_is_urgent_first(requests: list[InferenceRequest], packing: Packing) -> None:
    message = Received(subscription="s", ack_id="k", message_id="1", data=b"", attributes={}, published_s=0.0)
    items = [Translated(received=message, request=request, reply_topic="t") for request in requests]

    sent = [item.request.priority for item in chain(*chunks_of(items, packing))]

    assert sent == sorted(sent, key=[Priority.HIGH, Priority.NORMAL].index)
    assert len(sent) == len(requests)

import base64
import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
import torch

from lowtide.tasks.errors import ContentError, ContentUnavailable, EngineStopped, InvalidRequest
from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.workers.device.outputs import WrongOutputs
from lowtide.workers.device.predict import Predictor
from lowtide.workers.engine.fetching import FETCH_THREADS
from lowtide.workers.images.memory import reserve
from lowtide.workers.model import Model
from tests.waiting import until

WAIT_S = 10


class Sum(Model):
    """The sum of the content's first four bytes."""

    def __init__(self, name: str = "sum") -> None:
        super().__init__(name)
        self.batches: list[int] = []
        self.decodes = 0

    def load(self, device: torch.device) -> None:
        self.version = "v1"

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        self.decodes += 1
        return torch.tensor(list(content[:4].ljust(4, b"\0")), dtype=torch.float32)

    def predict(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        self.batches.append(len(batch))
        return batch.sum(dim=1, keepdim=True)

    def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
        return [int(output.item())]


def request(content: bytes = b"\1\2", *, model: str = "sum", **fields: Any) -> InferenceRequest:
    if "uri" not in fields:
        fields["data"] = base64.b64encode(content).decode()
    return InferenceRequest.parse({"model": model, **fields})


def outcomes_of(engine, requests: Sequence[InferenceRequest]) -> list[Outcome]:
    return [future.result(WAIT_S) for future in engine.submit(requests)]


def held(engine, gate: threading.Event, count: int) -> None:
    """Let `count` items gather behind a device that waits for `gate`, then let it go."""
    while len(engine._ready) < count:
        time.sleep(0.002)
    gate.set()


class Gated(Sum):
    """Waits for a gate before its first batch, so that the next one is full."""

    def __init__(self, name: str = "sum") -> None:
        super().__init__(name)
        self.gate = threading.Event()
        self.entered = threading.Event()

    def predict(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        return self.judge(batch)

    def judge(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        return super().predict(batch)


def through_one_batch(engine, model: Gated, requests: Sequence[InferenceRequest]) -> list[Outcome]:
    """The outcomes of requests that became ready while the device was busy with another one."""
    first = engine.submit([request(b"\0")])
    assert model.entered.wait(WAIT_S)
    futures = engine.submit(requests)
    held(engine, model.gate, len(requests))
    assert first[0].result(WAIT_S).status is Status.OK
    return [future.result(WAIT_S) for future in futures]


def test_requests_are_answered_in_their_order_with_version_and_timings(engine_of) -> None:
    outcomes = outcomes_of(engine_of({"sum": Sum()}), [request(bytes([i])) for i in range(100)])
    assert [outcome.outputs for outcome in outcomes] == [[i] for i in range(100)]
    assert {(outcome.status, outcome.model_version) for outcome in outcomes} == {(Status.OK, "v1")}
    timings = outcomes[0].timings_ms
    assert 0 < timings.gpu <= timings.total
    assert 0 < timings.decode < timings.total
    assert timings.queued + timings.decode + timings.gpu <= timings.total + 0.01


def test_items_that_wait_for_the_device_run_as_one_batch(engine_of) -> None:
    model = Gated()
    engine = engine_of({"sum": model}, batch_max_requests=8)
    through_one_batch(engine, model, [request()] * 20)
    assert model.batches == [1, 8, 8, 4]
    assert engine.progress().batches == {"idle": 2, "full": 2}
    assert engine.progress().running == {}


def test_content_is_fetched_and_an_error_of_one_request_is_its_own(engine_of, memory) -> None:
    memory.contents["mem://a"] = b"\3"
    outcomes = outcomes_of(engine_of({"sum": Sum()}), [request(uri="mem://a"), request(uri="mem://b"), request()])
    assert [outcome.status for outcome in outcomes] == [Status.OK, Status.FAILED, Status.OK]
    assert outcomes[1].error.type == "not_found"
    assert outcomes[0].timings_ms.fetch > 0


def test_a_source_that_raises_what_it_should_not_fails_its_requests_and_fetching_goes_on(engine_of, memory) -> None:
    def choke() -> bytes:
        raise RuntimeError("a library met what it had not expected")

    memory.contents |= {"mem://bad": choke, "mem://a": b"\1\1"}
    engine = engine_of({"sum": Sum()})
    bad = outcomes_of(engine, [request(uri="mem://bad") for _ in range(2 * FETCH_THREADS)])

    assert {(outcome.status, outcome.error.type) for outcome in bad} == {(Status.FAILED, "content")}
    assert outcomes_of(engine, [request(uri="mem://a")])[0].outputs == [2]


def test_content_that_may_come_later_is_tried_three_times_then_left_to_a_retry(engine_of, memory) -> None:
    def away() -> bytes:
        raise ContentUnavailable("the server is away")

    memory.contents["mem://a"] = away
    (outcome,) = outcomes_of(engine_of({"sum": Sum()}), [request(uri="mem://a")])
    assert outcome.status is Status.RETRY
    assert outcome.error.type == "unavailable"
    assert len(memory.reads) == 3


def test_a_slow_fetch_holds_up_nobody_who_brings_content(engine_of, memory) -> None:
    gate = threading.Event()
    memory.contents["mem://slow"] = lambda: (gate.wait(WAIT_S) and b"\1") or b""
    engine = engine_of({"sum": Sum()})
    slow = engine.submit([request(uri="mem://slow")] * 10)
    assert outcomes_of(engine, [request()])[0].status is Status.OK
    gate.set()
    assert all(future.result(WAIT_S).status is Status.OK for future in slow)


def test_content_that_is_fetched_ahead_is_not_decoded_and_runs_as_if_it_had_travelled(engine_of, memory) -> None:
    memory.contents["mem://a"] = b"\3"
    model = Sum()
    engine = engine_of({"sum": model})
    found = engine.fetch([request(uri="mem://a", request_id="1"), request(b"\4"), request(uri="mem://b")])
    assert (memory.reads, model.decodes, engine.progress().done) == (["mem://a", "mem://b"], 0, {"failed": 1})
    assert (found[0].uri, found[0].request_id, found[2].error.type) == (None, "1", "not_found")
    assert [outcome.outputs for outcome in outcomes_of(engine, found[:2])] == [[3], [4]]
    assert len(memory.reads) == 2


def test_content_is_fetched_ahead_until_a_quarter_of_the_memory_for_decoding_is_full(engine_of, memory) -> None:
    memory.contents["mem://a"] = b"1234"
    engine = engine_of({"sum": Sum()}, decode_memory_bytes=4 * (4 * FETCH_THREADS + 1))
    found = engine.fetch([request(uri="mem://a")] * (3 * FETCH_THREADS))
    assert [one.uri for one in found] == [None] * 2 * FETCH_THREADS + ["mem://a"] * FETCH_THREADS


def test_a_drain_ends_a_fetch_ahead(engine_of, memory) -> None:
    began, gate = threading.Event(), threading.Event()

    def slow() -> bytes:
        began.set()
        assert gate.wait(WAIT_S)
        return b""

    memory.contents["mem://slow"] = slow
    engine = engine_of({"sum": Sum()})
    with ThreadPoolExecutor() as pool:
        fetching = pool.submit(engine.fetch, [request(uri="mem://slow")])
        assert began.wait(WAIT_S)
        engine.close(0.0)
        with pytest.raises(EngineStopped):
            fetching.result(WAIT_S)
    gate.set()
    with pytest.raises(EngineStopped):
        engine.fetch([request(uri="mem://slow")])


def test_an_unknown_model_fails_and_lists_those_that_there_are(engine_of) -> None:
    (outcome,) = outcomes_of(engine_of({"sum": Sum(), "other": Sum("other")}), [request(model="cat")])
    assert outcome.error.type == "unknown_model"
    assert "other, sum" in outcome.error.message


def test_data_that_is_not_base64_is_an_invalid_request(engine_of) -> None:
    bad = InferenceRequest.model_construct(**request().model_dump() | {"data": "%%"})
    (outcome,) = outcomes_of(engine_of({"sum": Sum()}), [bad])
    assert outcome.error.type == "invalid_request"


def test_inline_content_over_the_bound_is_too_large(engine_of) -> None:
    (outcome,) = outcomes_of(engine_of({"sum": Sum()}, content_max_bytes=10), [request(b"x" * 11)])
    assert outcome.error.type == "too_large"


def test_inline_content_far_over_the_bound_is_not_even_decoded(engine_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InferenceRequest, "content", lambda _: pytest.fail("decoded"))
    (outcome,) = outcomes_of(engine_of({"sum": Sum()}, content_max_bytes=10), [request(b"x" * 20)])
    assert outcome.error.type == "too_large"


def test_a_request_that_expired_is_not_even_fetched(engine_of, memory) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    requests = [request(uri="mem://a", expires_at=past), request(expires_at=past)]
    model = Sum()
    outcomes = outcomes_of(engine_of({"sum": model}), requests)
    assert [(outcome.status, outcome.error.type) for outcome in outcomes] == [(Status.EXPIRED, "expired")] * 2
    assert (memory.reads, model.decodes, model.batches) == ([], 0, [])


def test_a_request_that_expires_while_it_waits_for_the_device_is_not_predicted(engine_of) -> None:
    model = Gated()
    engine = engine_of({"sum": model})
    first = engine.submit([request()])
    assert model.entered.wait(WAIT_S)
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    late, kept = engine.submit([request(expires_at=soon), request()])
    until(lambda: len(engine._ready) == 2 or late.done(), what="both wait")  # done: it expired before
    time.sleep(0.3)
    model.gate.set()
    assert late.result(WAIT_S).status is Status.EXPIRED
    assert kept.result(WAIT_S).status is Status.OK
    assert first[0].result(WAIT_S).status is Status.OK
    assert model.batches == [1, 1]


class Picky(Gated):
    """Raises when the content 13 is in the batch."""

    error: BaseException = ValueError("unlucky")

    def judge(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        outputs = super().judge(batch)
        if 13 in batch[:, 0]:
            raise self.error
        return outputs


def test_a_batch_that_raises_is_bisected_until_the_culprit_fails_alone(engine_of) -> None:
    model = Picky()
    outcomes = through_one_batch(engine_of({"sum": model}), model, [request(bytes([i])) for i in range(16)])
    assert [i for i, outcome in enumerate(outcomes) if outcome.status is not Status.OK] == [13]
    assert outcomes[13].error.type == "model_error"
    assert outcomes[13].error.message == "model sum raised ValueError: unlucky"
    # In this order or another: items are ready as their threads decode them.
    assert sorted(model.batches) == [1, 1, 1, 2, 2, 4, 4, 8, 8, 16]


def test_a_model_that_would_end_the_process_is_bisected_too(engine_of) -> None:
    model = Picky()
    model.error = SystemExit(3)
    outcomes = through_one_batch(engine_of({"sum": model}), model, [request(bytes([i])) for i in range(16)])
    assert [i for i, outcome in enumerate(outcomes) if outcome.status is not Status.OK] == [13]
    assert outcomes[13].error.message == "model sum raised SystemExit: 3"


class Small(Gated):
    """Has memory for three items."""

    def judge(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        outputs = super().judge(batch)
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return outputs


def test_out_of_memory_halves_the_batch_and_the_ceiling_is_remembered(engine_of) -> None:
    model = Small()
    engine = engine_of({"sum": model}, batch_max_requests=8)
    outcomes = through_one_batch(engine, model, [request()] * 12)
    assert {outcome.status for outcome in outcomes} == {Status.OK}
    assert model.batches == [1, 8, 4, 2, 2, 2, 2, 2, 2]


class Swallowed(Gated):
    """Has memory for anything but the content 13."""

    def judge(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        outputs = super().judge(batch)
        if 13 in batch[:, 0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")
        return outputs


def test_a_request_that_alone_runs_out_of_memory_leaves_the_ceiling_where_it_was(engine_of) -> None:
    model = Swallowed()
    engine = engine_of({"sum": model}, batch_max_requests=16)
    outcomes = through_one_batch(engine, model, [request(bytes([i])) for i in range(16)])
    assert [i for i, outcome in enumerate(outcomes) if outcome.status is not Status.OK] == [13]
    assert outcomes[13].error.type == "out_of_memory"
    model.gate.clear()
    model.entered.clear()
    through_one_batch(engine, model, [request()] * 16)
    assert model.batches[-1] == 16


class Exhausted(Gated):
    """Has no memory for anything."""

    def judge(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        super().judge(batch)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")


def test_when_no_request_of_a_batch_fits_the_ceiling_stays_down(engine_of) -> None:
    model = Exhausted()
    engine = engine_of({"sum": model}, batch_max_requests=4)
    model.gate.set()
    first = engine.submit([request()] * 12)
    assert {future.result(WAIT_S).error.type for future in first} == {"out_of_memory"}
    model.batches.clear()
    again = engine.submit([request()] * 4)
    assert {future.result(WAIT_S).error.type for future in again} == {"out_of_memory"}
    assert model.batches == [1, 1, 1, 1]


class Starved(Sum):
    def predict(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB")


def test_a_request_that_alone_runs_out_of_memory_fails(engine_of) -> None:
    (outcome,) = outcomes_of(engine_of({"sum": Starved()}), [request()])
    assert outcome.error.type == "out_of_memory"


class Forgetful(Gated):
    """Gives no output when the content is 13."""

    def judge(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        return super().judge(batch)[batch[:, 0] != 13]


def test_a_wrong_number_of_outputs_fails_its_batch_which_is_not_bisected(engine_of) -> None:
    model = Forgetful()
    engine = engine_of({"sum": model})
    outcomes = through_one_batch(engine, model, [request(bytes([i])) for i in (1, 13, 2, 3)])
    why = "predict gave a tensor of shape (3, 1) for 4 items: the first dimension of a tensor is the batch"
    assert {(outcome.error.type, outcome.error.message) for outcome in outcomes} == {
        ("model_error", f"model sum: {why}")
    }
    assert model.batches == [1, 4]
    assert outcomes_of(engine, [request(bytes([1]))])[0].outputs == [1], "one odd request fails no other batch"


class Heads(Gated):
    """As many heads as the test says, each with the batch first or without it."""

    def __init__(self, count: int, *, batch_first: bool) -> None:
        super().__init__()
        self.count = count
        self.batch_first = batch_first

    def judge(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.batches.append(len(batch))
        return (batch if self.batch_first else batch.sum(dim=0),) * self.count

    def encode(self, output: Sequence[torch.Tensor], params: Mapping[str, Any]) -> list[Any]:
        return [int(head[0].item()) for head in output]


@pytest.mark.parametrize("n", [1, 2, 4, 9, 64])
def test_of_several_heads_every_request_gets_its_own_row_in_batches_of_all_sizes(engine_of, n: int) -> None:
    model = Heads(4, batch_first=True)
    outcomes = through_one_batch(engine_of({"sum": model}), model, [request(bytes([i])) for i in range(n)])
    assert [outcome.outputs for outcome in outcomes] == [[i] * 4 for i in range(n)]
    assert model.batches == [1, n]


@pytest.mark.parametrize("n", [1, 2, 4, 9, 64])
def test_heads_without_the_batch_first_fail_all_requests_whatever_their_number(engine_of, n: int) -> None:
    model = Heads(4, batch_first=False)
    model.gate.set()
    outcomes = outcomes_of(engine_of({"sum": model}), [request(bytes([i])) for i in range(n)])
    assert {(outcome.status, outcome.error.type) for outcome in outcomes} == {(Status.FAILED, "model_error")}
    assert all(outcome.error.message.startswith("model sum: predict gave a tuple of 4: ") for outcome in outcomes)


def test_an_encode_that_does_not_expect_heads_is_told_what_it_got(engine_of) -> None:
    class Unaware(Heads):
        def encode(self, output: Any, params: Mapping[str, Any]) -> list[Any]:
            return [int(output.item())]

    model = Unaware(2, batch_first=True)
    model.gate.set()
    (outcome,) = outcomes_of(engine_of({"sum": model}), [request()])
    assert outcome.error.message.startswith("model sum: its outputs can't be encoded: AttributeError: ")
    assert outcome.error.message.endswith("; encode got a tuple of 2: (4,), (4,)")


@pytest.mark.parametrize(
    ("given", "said"), [({"label": "x"}, "a dict of 1: label a str"), ("x", "a str"), (None, "None"), (7, "an int")]
)
def test_an_encode_that_gives_no_list_is_told_so(engine_of, given: Any, said: str) -> None:
    class Bare(Heads):
        def encode(self, output: Any, params: Mapping[str, Any]) -> list[Any]:
            return given

    model = Bare(2, batch_first=True)
    model.gate.set()
    (outcome,) = outcomes_of(engine_of({"sum": model}), [request()])
    assert outcome.error.type == "model_error"
    assert outcome.error.message == f"model sum: encode gave {said}, and a list is wanted"


def test_a_model_whose_example_shows_that_its_outputs_are_wrong_is_not_served(engine_of) -> None:
    class Shown(Heads):
        def example(self) -> torch.Tensor:
            return torch.ones(4)

    wrong, right = Shown(2, batch_first=False), Shown(2, batch_first=True)
    wrong.gate.set()
    right.gate.set()
    with pytest.raises(WrongOutputs, match="model sum: predict gave a tuple of 2: "):
        engine_of({"sum": wrong})
    assert outcomes_of(engine_of({"sum": right}), [request()])[0].outputs == [1, 1]
    assert right.batches == [1, 2, 3, 1]


class Untyped(Gated):
    """Content 13 gives what is no tensor, 14 a tensor without numbers."""

    def judge(self, batch: torch.Tensor) -> list[Any]:
        odd: dict[int, Any] = {13: "thirteen", 14: torch.empty(1, device="meta")}
        return [odd.get(int(row[0]), row.sum()) for row in batch]


def test_an_output_that_is_no_tensor_fails_its_batch_and_the_device_goes_on(engine_of) -> None:
    model = Untyped()
    engine = engine_of({"sum": model}, on_broken=lambda error: pytest.fail(str(error)))
    outcomes = through_one_batch(engine, model, [request(bytes([i])) for i in (1, 13, 2)])
    (said,) = {outcome.error.message for outcome in outcomes}
    assert said.startswith("model sum: predict gave a list of 3: ")
    assert said.endswith(" for 3 items: an output consists of tensors, and a str is in it")
    assert outcomes_of(engine, [request()])[0].status is Status.OK


def test_an_output_that_cannot_be_looked_at_fails_its_request_and_the_device_goes_on(engine_of) -> None:
    model = Untyped()
    engine = engine_of({"sum": model}, on_broken=lambda error: pytest.fail(str(error)))
    outcomes = through_one_batch(engine, model, [request(bytes([i])) for i in (1, 14, 2)])
    assert [outcome.status for outcome in outcomes] == [Status.OK, Status.FAILED, Status.OK]
    assert outcomes[1].error.message.startswith("model sum raised ")
    assert outcomes_of(engine, [request()])[0].status is Status.OK


class Undefined(Gated):
    def judge(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        return [row.log().sum(dim=0, keepdim=True) if row[0] == 13 else row.sum() for row in batch]


def test_an_output_that_is_not_finite_fails_its_request_alone(engine_of) -> None:
    model = Undefined()
    outcomes = through_one_batch(engine_of({"sum": model}), model, [request(bytes([i])) for i in (1, 13, 2)])
    assert [outcome.status for outcome in outcomes] == [Status.OK, Status.FAILED, Status.OK]
    assert outcomes[1].error.message == "model sum: its output has NaN or infinity in it"


class Encoding(Sum):
    """Encodes whatever the test says."""

    def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
        if "refuse" in params:
            raise InvalidRequest("is not a number", field="params.top")
        return ODD_OUTPUTS.get(params.get("odd"), ["x" * params.get("chars", 0)])


def nested(depth: int) -> list[Any]:
    outputs: list[Any] = []
    for _ in range(depth):
        outputs = [outputs]
    return outputs


ODD_OUTPUTS: dict[str | None, Any] = {
    "nan": [float("nan")],
    "deep": nested(300),
    "deeper": nested(10_000),
    "half a pair": [{"\ud800": 1}],
    "no list": "seven",
    "no json": [object()],
}


@pytest.mark.parametrize(
    ("params", "type"),
    [
        *(({"odd": odd}, "model_error") for odd in ODD_OUTPUTS if odd),
        ({"chars": 2000}, "output_too_large"),
        ({"refuse": 1}, "invalid_request"),
    ],
)
def test_outputs_that_cannot_travel_fail_their_request(engine_of, params, type) -> None:
    engine = engine_of({"sum": Encoding()}, result_max_bytes=1000)
    outcomes = outcomes_of(engine, [request(params=params), request()])
    assert [outcome.status for outcome in outcomes] == [Status.FAILED, Status.OK]
    assert all(outcome.to_wire() for outcome in outcomes), "or none of the chunk could be stored"
    assert outcomes[0].error.type == type
    assert type == "invalid_request" or "model sum" in outcomes[0].error.message


class Decoding(Sum):
    """Decodes whatever the test says."""

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        match params.get("do"):
            case "refuse":
                raise ContentError("not an image", type="not_an_image")
            case "raise":
                raise ZeroDivisionError("oops")
            case "leave":
                raise SystemExit("a library's idea of an error")
            case "list":
                return [1.0]  # type: ignore[return-value]
            case "other shape":
                return torch.zeros(4)
        return super().decode(content, params)


@pytest.mark.parametrize(
    ("do", "type"),
    [("refuse", "not_an_image"), ("raise", "decode_error"), ("leave", "decode_error"), ("list", "decode_error")],
)
def test_content_that_cannot_be_decoded_fails_alone(engine_of, do, type) -> None:
    outcomes = outcomes_of(engine_of({"sum": Decoding()}), [request(), request(params={"do": do}), request()])
    assert [outcome.status for outcome in outcomes] == [Status.OK, Status.FAILED, Status.OK]
    assert (outcomes[1].error.type, outcomes[1].model_version) == (type, "v1")


def test_an_output_that_cannot_be_encoded_fails_alone_whatever_is_raised(engine_of) -> None:
    class Leaving(Sum):
        def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
            if params:
                raise SystemExit("a library's idea of an error")
            return super().encode(output, params)

    outcomes = outcomes_of(engine_of({"sum": Leaving()}), [request(), request(params={"do": 1}), request()] * 3)
    assert [outcome.status for outcome in outcomes] == [Status.OK, Status.FAILED, Status.OK] * 3
    assert "SystemExit" in outcomes[1].error.message


def test_items_of_different_shapes_never_meet_in_a_batch(engine_of) -> None:
    outcomes = outcomes_of(engine_of({"sum": Decoding()}), [request(), request(params={"do": "other shape"})] * 20)
    assert [outcome.outputs for outcome in outcomes] == [[3], [0]] * 20


def test_the_rate_is_a_guess_until_measured_and_then_a_share_of_the_batch(engine_of) -> None:
    class Slow(Sum):
        def predict(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
            time.sleep(0.02)
            return super().predict(batch)

    def measured() -> bool:
        engine = engine_of({"sum": Slow()}, batch_max_requests=4)
        assert engine.seconds_per_request("sum") == engine.seconds_per_request("unknown") == 0.005
        outcomes_of(engine, [request()] * 40)
        assert engine.rates == {"sum": engine.seconds_per_request("sum")}
        assert engine.seconds_per_request("sum") > 0.004
        return engine.seconds_per_request("sum") < 0.015

    until(measured, within_s=30.0, what="a rate on a machine that does not stand still meanwhile")


def test_a_model_that_cannot_be_loaded_raises_at_the_start(engine_of) -> None:
    class Missing(Sum):
        def load(self, device: torch.device) -> None:
            raise FileNotFoundError("weights.pt")

    with pytest.raises(FileNotFoundError, match=r"weights\.pt"):
        engine_of({"sum": Missing()})


def test_a_broken_device_is_told_and_blamed_on_nobody(engine_of) -> None:
    class Lost(Sum):
        def predict(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    broken = threading.Event()
    engine = engine_of({"sum": Lost()}, on_broken=lambda _: broken.set())
    (future,) = engine.submit([request()])
    assert broken.wait(WAIT_S)
    assert not future.done()


def test_a_device_thread_that_ends_otherwise_is_told_as_well(engine_of, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: Any) -> NoReturn:
        raise SystemExit("a mistake of ours")

    told: list[Exception] = []
    broken = threading.Event()
    engine = engine_of({"sum": Sum()}, on_broken=lambda error: (told.append(error), broken.set()))
    monkeypatch.setattr(Predictor, "predict", leave)
    (future,) = engine.submit([request()])
    assert broken.wait(WAIT_S)
    assert "nothing runs on cpu any more: SystemExit" in str(told[0])
    assert not future.done()


def test_close_finishes_what_fits_into_the_grace_and_takes_no_more(engine_of) -> None:
    model = Gated()
    engine = engine_of({"sum": model}, batch_max_requests=4)
    futures = engine.submit([request()] * 10)
    assert model.entered.wait(WAIT_S)
    threading.Timer(0.1, model.gate.set).start()
    engine.close(WAIT_S)
    assert {future.result(0).status for future in futures} == {Status.OK}
    with pytest.raises(EngineStopped):
        engine.submit([request()])[0].result(0)
    assert engine.progress().in_process == 0


def test_close_hands_back_what_does_not_fit(engine_of) -> None:
    model = Gated()
    engine = engine_of({"sum": model})
    futures = engine.submit([request()] * 10)
    assert model.entered.wait(WAIT_S)
    engine.close(0.05)
    for future in futures:
        with pytest.raises(EngineStopped):
            future.result(0)
    model.gate.set()
    engine.close(0.05)


def test_a_device_that_finishes_no_batch_is_stuck_and_an_idle_one_is_not(engine_of) -> None:
    model = Gated()
    engine = engine_of({"sum": model}, stuck_after_s=0.2)
    time.sleep(0.3)
    assert engine.stuck() is None
    began_s = time.monotonic()
    engine.submit([request()])
    assert model.entered.wait(WAIT_S)
    assert engine.stuck() is None or time.monotonic() - began_s > 0.2
    assert (engine.progress().has_work, engine.progress().running) == (True, {"sum": 1})
    assert "no request has ended" in until(engine.stuck)
    model.gate.set()


@pytest.mark.parametrize("stage", ["decode", "encode"])
def test_a_request_that_never_comes_out_of_a_stage_fails_with_timeout_and_its_neighbours_go_back(
    engine_of, stage: str
) -> None:
    gate = threading.Event()

    class Hanging(Sum):
        def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
            assert params.get("hang") != "decode" or gate.wait(WAIT_S)
            return super().decode(content, params)

        def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
            assert params.get("hang") != "encode" or gate.wait(WAIT_S)
            return super().encode(output, params)

    engine = engine_of({"sum": Hanging()}, batch_deadline_s=0.2, decode_threads=1)
    (hangs,) = engine.submit([request(params={"hang": stage})])
    found = until(engine.overdue)
    assert f"a thread of {stage} has been at one request" in found.what
    if stage == "encode":  # its other thread goes on meanwhile
        outcomes_of(engine, [request()] * 3)
    rest = engine.submit([request(params={"hang": stage})] * 3)
    engine.give_up(found)
    error = hangs.result(0).error
    assert (error.type, error.message.split(" has ")[0]) == ("timeout", f"{stage} of model sum")
    assert [future.exception(0).implicated for future in rest] == [False] * 3
    gate.set()


def test_requests_that_come_out_of_decode_in_time_are_never_overdue(engine_of) -> None:
    engine = engine_of({"sum": Sum()}, batch_deadline_s=0.2)
    outcomes_of(engine, [request()] * 20)
    time.sleep(0.3)
    until(lambda: engine.overdue() is None, what="nobody is at a request any more")


def test_a_request_that_runs_alone_and_does_not_end_fails_with_timeout_and_the_rest_goes_back(engine_of) -> None:
    model = Gated()
    engine = engine_of({"sum": model}, batch_deadline_s=0.1)
    began_s = time.monotonic()
    (alone,) = engine.submit([request()])
    assert model.entered.wait(WAIT_S)
    assert engine.overdue() is None or time.monotonic() - began_s > 0.1
    rest = engine.submit([request()] * 3)
    engine.give_up(until(engine.overdue))
    assert alone.result(0).error.type == "timeout"
    for future in rest:
        with pytest.raises(EngineStopped) as caught:
            future.result(0)
        assert not caught.value.implicated
    model.gate.set()


def test_of_several_that_run_together_and_do_not_end_all_go_back_as_implicated(engine_of) -> None:
    class Second(Gated):
        def predict(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
            outputs = super().predict(batch)
            assert len(self.batches) == 1 or again.wait(WAIT_S)
            return outputs

    again = threading.Event()
    model = Second()
    engine = engine_of({"sum": model}, batch_deadline_s=0.1, batch_max_requests=4)
    first = engine.submit([request()])
    assert model.entered.wait(WAIT_S)
    rest = engine.submit([request()] * 6)
    held(engine, model.gate, 6)
    assert first[0].result(WAIT_S).status is Status.OK
    running = until(engine.overdue)
    engine.give_up(running)
    assert len(running.jobs) == 4
    assert [future.exception(0).implicated for future in rest].count(True) == 4
    again.set()


def test_a_batch_that_would_outlast_the_grace_is_not_begun_and_goes_back_at_once(engine_of) -> None:
    model = Gated()
    engine = engine_of({"sum": model}, batch_max_requests=1)
    engine._rates.learn("sum", n=1, batch_s=1000.0)
    (running,) = engine.submit([request()])
    assert model.entered.wait(WAIT_S)
    (waiting,) = engine.submit([request()])
    threading.Timer(0.1, model.gate.set).start()
    began_s = time.monotonic()
    engine.close(60.0)
    assert time.monotonic() - began_s < 30.0
    assert running.result(0).status is Status.OK
    with pytest.raises(EngineStopped):
        waiting.result(0)
    assert model.batches == [1]


def test_what_the_engine_says_of_itself_is_json_ready(engine_of) -> None:
    engine = engine_of({"sum": Sum()})
    outcomes_of(engine, [request(), request(model="cat")])
    activity = engine.progress()
    assert json.loads(json.dumps(dict(activity.done))) == {"ok": 1, "failed": 1}


class Short(Sum):
    """Gets no memory to decode with the first time."""

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        if not self.decodes:
            self.decodes += 1
            raise MemoryError
        return super().decode(content, params)


def test_memory_that_is_too_short_for_a_model_to_decode_is_worth_another_try(engine_of) -> None:
    engine = engine_of({"sum": Short()}, decode_threads=1)

    first, second = (outcomes_of(engine, [request()])[0] for _ in range(2))

    assert (first.status, first.error.type) == (Status.RETRY, "memory_short")
    assert second.status is Status.OK


class Wanting(Sum):
    """Decodes in all of the memory that there is, until a gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.within = 0

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        reserve(100)
        self.within += 1
        assert self.gate.wait(WAIT_S)
        return super().decode(content, params)


def test_who_waits_for_memory_is_not_overdue_and_all_are_answered_in_turn(engine_of) -> None:
    model = Wanting()
    engine = engine_of({"sum": model}, decode_threads=4, decode_memory_bytes=100, batch_deadline_s=0.2)

    futures = engine.submit([request() for _ in range(4)])
    while not engine.overdue():
        time.sleep(0.002)
    decoding = dict(engine._crews[1]._at)
    model.gate.set()

    assert len(decoding) == 1  # the three that wait are at no work
    assert [future.result(WAIT_S).status for future in futures] == [Status.OK] * 4

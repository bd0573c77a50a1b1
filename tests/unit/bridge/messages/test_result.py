import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lowtide.bridge.messages.kinds import Translated
from lowtide.bridge.messages.result import result_message
from lowtide.tasks.wire.outcome import Outcome, Status, Timings
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.tasks.wire.result import InferenceResult
from tests.unit.bridge.received import received

NOW_S = 1000.25
OUTCOME = Outcome(
    status=Status.OK,
    model_version="v1",
    outputs=[{"label": "cat"}],
    timings_ms=Timings(queued=7, fetch=1, decode=2, gpu=3, total=10),
)


def item(tries: int = 0, published_s: float = 1000.0, attributes: dict[str, str] | None = None) -> Translated:
    message = received(attributes=attributes, published_s=published_s)
    request = InferenceRequest(model="a", uri="gs://b/c", request_id="mine")
    return Translated(received=message, request=request, reply_topic="projects/p/topics/r", tries=tries)


def body(outcome: Outcome, given: Translated | None = None, max_bytes: int = 10_000) -> dict[str, Any]:
    outgoing = result_message(given or item(), outcome, now_s=NOW_S, max_bytes=max_bytes)
    found: dict[str, Any] = json.loads(outgoing.data)
    Draft202012Validator(InferenceResult.model_json_schema()).validate(found)
    assert outgoing.attributes["status"] == found["status"]
    return found


def test_a_result_says_what_the_contract_promises() -> None:
    assert body(OUTCOME, item(tries=2)) == {
        "request_id": "mine",
        "message_id": "17",
        "model": "a",
        "model_version": "v1",
        "status": "ok",
        "outputs": [{"label": "cat"}],
        "error": None,
        "attempts": 3,
        "timings_ms": {"queued": 240.0, "fetch": 1.0, "decode": 2.0, "gpu": 3.0, "total": 250.0},
        "object": {"bucket": "b", "name": "c", "generation": None},
    }


@pytest.mark.parametrize(
    ("fields", "object_"),
    [
        ({"uri": "gs://b/a/c#1", "generation": "17"}, {"bucket": "b", "name": "a/c#1", "generation": "17"}),
        ({"uri": "GS://b//c"}, {"bucket": "b", "name": "/c", "generation": None}),
        ({"uri": "https://good.org/c"}, None),
        ({"data": "aGk="}, None),
        ({"uri": "gs://b"}, None),
    ],
)
def test_a_result_names_the_object_that_it_is_about(
    fields: dict[str, str], object_: dict[str, str | None] | None
) -> None:
    given = replace(item(), request=InferenceRequest(model="a", **fields))
    assert body(OUTCOME, given)["object"] == object_
    assert body(Outcome.failed("not_found", "gone"), given)["object"] == object_


def test_clocks_that_differ_give_no_negative_time() -> None:
    found = body(OUTCOME, item(published_s=NOW_S + 5))
    assert (found["timings_ms"]["total"], found["timings_ms"]["queued"]) == (0, 0)


def test_attributes_are_ours_and_the_callers_own() -> None:
    outgoing = result_message(item(attributes={"x-run": "1", "other": "2"}), OUTCOME, now_s=NOW_S, max_bytes=9999)

    assert outgoing.topic == "projects/p/topics/r"
    assert outgoing.attributes == {"x-run": "1", "request_id": "mine", "message_id": "17", "model": "a", "status": "ok"}


def test_a_hundred_attributes_of_the_callers_own_leave_room_for_ours() -> None:
    given = item(attributes={f"x-{index:03}": "v" for index in range(100)})
    assert len(result_message(given, OUTCOME, now_s=NOW_S, max_bytes=9999).attributes) == 100


def test_a_failure_has_its_error() -> None:
    found = body(Outcome.failed("decode", "not an image"))
    assert (found["status"], found["error"]) == ("failed", {"type": "decode", "message": "not an image"})


def test_the_last_failed_try_is_a_failure() -> None:
    assert body(Outcome.failed("unavailable", "503", retry=True), item(tries=3))["status"] == "failed"


def test_an_expiry_has_neither_outputs_nor_error() -> None:
    found = body(Outcome(status=Status.EXPIRED))
    assert (found["status"], found["outputs"], found["error"]) == ("expired", [], None)


def test_a_result_that_is_too_large_says_so() -> None:
    found = body(OUTCOME.model_copy(update={"outputs": ["x" * 20_000]}))

    assert found["error"]["type"] == "output_too_large"
    assert (found["status"], found["outputs"], found["timings_ms"]["gpu"]) == ("failed", [], 3.0)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}])
def test_what_json_cannot_say_harms_nothing(odd: object) -> None:
    outcome = Outcome.model_construct(
        status=Status.OK, model_version="v", outputs=[odd], error=None, timings_ms=Timings()
    )
    outgoing = result_message(item(), outcome, now_s=NOW_S, max_bytes=9999)
    json.loads(outgoing.data, parse_constant=lambda name: pytest.fail(name))

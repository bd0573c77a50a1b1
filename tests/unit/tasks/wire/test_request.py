import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from lowtide.tasks import InferenceRequest, InvalidRequest, Outcome
from lowtide.tasks.wire.outcome import ERROR_LOOK_CHARS, RequestError
from lowtide.tasks.wire.version import wire_version_of


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_a_request_survives_the_wire() -> None:
    request = InferenceRequest.parse(
        {"model": "digits", "uri": "gs://b/1.png", "expires_at": "2026-01-31T12:00:00Z", "priority": "high"}
    )

    assert InferenceRequest.parse(json.loads(json.dumps(request.to_wire()))) == request


def test_the_wire_carries_only_what_was_given() -> None:
    assert InferenceRequest.parse({"model": "digits", "data": "aGk="}).to_wire() == {"model": "digits", "data": "aGk="}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"uri": "gs://b/o"}, "model"),
        ({"model": "", "uri": "gs://b/o"}, "model"),
        ({"model": 7, "uri": "gs://b/o"}, "model"),
        ({"model": "m"}, "uri, data"),
        ({"model": "m", "uri": "u", "data": "aGk="}, "uri, data"),
        ({"model": "m", "uri": "u", "params": [1]}, "params"),
        ({"model": "m", "uri": "u", "params": {"k": nested(255)}}, "params"),
        ({"model": "m", "uri": "u", "params": {"k": nested(10_000)}}, "params"),
        ({"model": "m", "uri": "u", "params": {"k": {"\ud800": 1}}}, "params"),
        ({"model": "m", "uri": "u", "params": {"\ud800": 1}}, "params"),
        ({"model": "m", "uri": "u", "params": {"k": b"\xff"}}, "params"),
        ({"model": "m", "uri": "u", "params": {"k": 10**5000}}, "params"),
        ({"model": "m", "uri": "u", "params": {"k": float("nan")}}, "params"),
        ({"model": "m", "uri": "u", "request_id": 10**5000}, "request_id"),
        ({"model": "m", "data": "aG k="}, "data"),
        ({"model": "m", "uri": "u", "params": {"k": object()}}, "params"),
        ({"model": "m", "uri": "u", "priority": "urgent"}, "priority"),
        ({"model": "m", "uri": "u", "expires_at": "tomorrow"}, "expires_at"),
        ({"model": "m", "uri": "u", "expires_at": "2020"}, "expires_at"),
        ({"model": "m", "uri": "u", "expires_at": "2026-01-31T12:00:00"}, "expires_at"),
        ({"model": "m", "uri": "u", "request_id": "x" * 1025}, "request_id"),
        ({"model": "m", "uri": "u", "modle": "m"}, "modle"),
    ],
)
def test_an_invalid_request_names_the_offending_field(wrong: dict, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        InferenceRequest.parse(wrong)

    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize("value", [nested(254), "\ud800", ["\ud800"]], ids=["deep", "half a pair", "in a list"])
def test_params_that_can_be_sent_are_sent_as_they_are(value: Any) -> None:
    request = InferenceRequest.parse({"model": "m", "uri": "u", "params": {"k": value}})

    assert InferenceRequest.parse(json.loads(json.dumps(request.to_wire()))).params == {"k": value}


def test_what_is_not_an_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="expected an object"):
        InferenceRequest.parse(["digits"])


def test_inline_content_is_base64() -> None:
    assert InferenceRequest.parse({"model": "m", "data": "aGk="}).content() == b"hi"
    with pytest.raises(InvalidRequest, match="^data: not base64"):
        InferenceRequest.parse({"model": "m", "data": "h\x00!"})
    with pytest.raises(InvalidRequest, match="^data: not base64"):
        InferenceRequest.model_construct(model="m", data="aG k=").content()


def test_inline_content_travels_in_one_spelling() -> None:
    assert InferenceRequest.parse({"model": "m", "data": "data:;base64,-_8\n"}).to_wire()["data"] == "+/8="


def test_behind_the_door_a_spelling_is_looked_at_when_it_is_decoded() -> None:
    """A stock caller's task meets no door of ours."""
    assert InferenceRequest.parse({"model": "m", "data": "aG\nk"}, travelled=True).content() == b"hi"
    with pytest.raises(InvalidRequest, match=r"^data: not base64: a blank \(' '\) at 2"):
        InferenceRequest.parse({"model": "m", "data": "aG k"}, travelled=True).content()


def test_a_field_that_is_null_is_absent() -> None:
    nulls = dict.fromkeys((*InferenceRequest.model_fields, "else"))

    assert InferenceRequest.parse({**nulls, "model": "m", "uri": "u"}) == InferenceRequest.parse(
        {"model": "m", "uri": "u"}
    )
    assert InferenceRequest(**{**nulls, "model": "m", "data": ""}).to_wire() == {"model": "m", "data": ""}


@pytest.mark.parametrize(("given", "text"), [(4711, "4711"), (4711.0, "4711"), (-1, "-1"), (2**63, str(2**63))])
def test_a_number_as_an_id_is_kept_in_words(given: float, text: str) -> None:
    assert InferenceRequest.parse({"model": "m", "uri": "u", "request_id": given}).request_id == text


@pytest.mark.parametrize("given", [1767225600000001, "1767225600000001", "01767225600000001", 1767225600000001.0])
def test_a_generation_is_a_number_or_its_digits(given: float | str) -> None:
    request = InferenceRequest.parse({"model": "m", "uri": "gs://b/o#1", "generation": given})

    assert (request.uri, request.generation) == ("gs://b/o#1", "1767225600000001")
    assert request.wire_version == wire_version_of([request.to_wire()]) == 2
    assert InferenceRequest.parse(request.to_wire()) == request


def test_only_what_an_older_worker_cannot_read_says_so() -> None:
    plain = InferenceRequest.parse({"model": "m", "uri": "gs://b/o", "request_id": "r", "params": {"k": 1}})
    assert plain.wire_version == wire_version_of([plain.to_wire()]) == wire_version_of([]) == 1


def test_a_request_expires_at_its_time_and_not_before() -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    request = InferenceRequest.parse({"model": "m", "uri": "u", "expires_at": at.isoformat()})

    assert not request.expired(at - timedelta(milliseconds=1))
    assert request.expired(at)


def test_a_failure_that_another_try_may_cure_has_a_status_of_its_own() -> None:
    assert Outcome.failed("unavailable", "later", retry=True).status == "retry"
    assert Outcome.failed("not_found", "never").status == "failed"


def test_no_outcome_tells_a_signature_or_a_password() -> None:
    outcome = Outcome.failed("unavailable", "https://h/a.jpg?sig=hunter2 over https://me:hunter2@proxy", retry=True)

    assert outcome.error is not None
    assert outcome.error.message == "https://h/a.jpg?… over https://me:…@proxy"


def test_an_outcome_says_no_more_than_the_beginning_of_a_long_error() -> None:
    error = RequestError(type="model_error", message="shape " * 100_000)

    assert error.message.startswith("shape shape ")
    assert len(error.message) <= 1001
    assert RequestError.model_validate(error.model_dump()) == error


def test_a_request_that_is_none_is_not_quoted() -> None:
    with pytest.raises(InvalidRequest) as caught:
        InferenceRequest.parse({"model": "m", "uri": ["hunter2"]})

    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


def test_a_token_that_is_longer_than_what_is_shown_is_hidden_too() -> None:
    error = RequestError(type="fetch", message=f"https://oauth2:{'ey' * 2000}@good.org/cat.jpg is away")
    assert error.message == "https://oauth2:…@good.org/cat.jpg is away"


@pytest.mark.parametrize("beyond", [0, 10, 30])
def test_a_message_that_is_cut_before_it_is_looked_through_is_cut_between_words(beyond: int) -> None:
    first = "https://good.org/x?sig="
    second = "https://user:hunter2@good.org/cat.jpg"
    filler = "s" * (ERROR_LOOK_CHARS - len(first) - beyond - 1)
    shown = RequestError(type="fetch", message=f"{first}{filler} {second} is away").message
    assert shown == "https://good.org/x?…" + "…"


def test_of_many_names_that_are_no_fields_one_is_told_and_the_others_cost_nothing() -> None:
    odd = {f"k{number}": number for number in range(1000)}
    with pytest.raises(InvalidRequest, match="^k0: is not a field") as caught:
        InferenceRequest.parse({"model": "m", **odd, "uri": "gs://b/o"})
    cause = caught.value.__cause__
    assert isinstance(cause, ValidationError)
    assert cause.error_count() == 1

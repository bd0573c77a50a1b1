import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lowtide.tasks.errors import InvalidRequest
from lowtide.tasks.wire.outcome import Outcome, RequestError, Status, Timings
from lowtide.tasks.wire.request import REQUEST_ID_MAX_BYTES, InferenceRequest, Priority

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[4] / "docs/schemas/request.json").read_text()))

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PYTHON = (
    JSON | st.floats() | st.binary() | st.text(st.characters()) | st.datetimes() | st.complex_numbers() | st.builds(set)
)
NAMES = st.sampled_from([*InferenceRequest.model_fields, "else"])
TEXT = st.text(min_size=1, max_size=20)
OFFSETS = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(timezones=OFFSETS)

BASE64 = st.binary(max_size=20).map(lambda content: base64.b64encode(content).decode())
OBJECTS = st.fixed_dictionaries(
    {"uri": st.just("gs://b/o")}, optional={"generation": st.integers(1, 10**18 - 1).map(str)}
)
CONTENT = st.fixed_dictionaries({"uri": TEXT}) | st.fixed_dictionaries({"data": BASE64}) | OBJECTS
REQUESTS = st.tuples(
    st.fixed_dictionaries(
        {"model": TEXT},
        optional={
            "params": st.dictionaries(st.text(max_size=5), JSON, max_size=3),
            "request_id": TEXT,
            "expires_at": TIMES.map(datetime.isoformat),
            "priority": st.sampled_from([priority.value for priority in Priority]),
            "reply_topic": TEXT,
            "traceparent": st.text(),
        },
    ),
    CONTENT,
).map(lambda parts: {**parts[0], **parts[1]})


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def parsed(given: Any) -> InferenceRequest | InvalidRequest:
    """Whatever else is raised is the test's failure."""
    try:
        return InferenceRequest.parse(given)
    except InvalidRequest as error:
        return error


def content_of(request: InferenceRequest) -> bytes | InvalidRequest:
    try:
        return request.content()
    except InvalidRequest as error:
        return error


@given(given=REQUESTS)
def test_a_request_stays_the_same_over_the_wire(given: dict[str, Any]) -> None:
    request = InferenceRequest.parse(given)

    assert InferenceRequest.parse(through_json(request.to_wire())) == request
    assert through_json(request.to_wire()).keys() <= given.keys()


@given(given=REQUESTS, now=TIMES)
def test_a_request_has_expired_when_its_time_has_come(given: dict[str, Any], now: datetime) -> None:
    request = InferenceRequest.parse(given)

    assert request.expired(now) == ("expires_at" in given and datetime.fromisoformat(given["expires_at"]) <= now)


@given(
    given=st.dictionaries(NAMES | st.text(), PYTHON, max_size=4)
    | REQUESTS
    | PYTHON
    | st.dictionaries(st.integers(), JSON)
)
@example(given={"model": "m", "uri": "u", "request_id": "\ud800"})
@example(given={"model": "m", "uri": "u", "expires_at": 1e300})
@example(given={"model": "m", "uri": "u", "expires_at": "0001-01-01T00:00:00+14:00"})
def test_whatever_is_no_request_is_an_invalid_request(given: Any) -> None:
    request = parsed(given)

    if isinstance(request, InferenceRequest):
        request.expired()
        request.to_wire()


@given(given=REQUESTS, name=NAMES, value=JSON)
def test_an_error_names_the_field_that_is_wrong(given: dict[str, Any], name: str, value: Any) -> None:
    with_value = {**given, name: value}
    if name in ("uri", "data"):
        with_value = {**{n: v for n, v in given.items() if n not in ("uri", "data")}, name: value}
    error = parsed(with_value)

    if isinstance(error, InvalidRequest):
        assert error.field is not None
        assert error.field in {name, "uri, data"} | ({"generation"} if "generation" in given else set())
        assert str(error).startswith(f"{error.field}: ")


@given(given=REQUESTS, name=NAMES, value=JSON | TEXT)
@example(given={"model": "m", "uri": "u"}, name="expires_at", value=60)
def test_what_the_published_schema_takes_is_taken_and_nothing_else(
    given: dict[str, Any], name: str, value: Any
) -> None:
    changed = {**given, name: value}
    # What a schema can't say here: one content and whose generation it is, bytes of UTF-8, how a time or base64 looks.
    assume((changed.get("uri") is None) != (changed.get("data") is None))
    assume(changed.get("generation") is None or changed.get("uri") == "gs://b/o")
    assume(not (name in ("expires_at", "data") and isinstance(value, str)))

    assert isinstance(parsed(changed), InferenceRequest) == SCHEMA.is_valid(changed)


@given(text=st.text(st.characters()) | st.binary().map(lambda data: data.hex()) | st.text("AQab0+/=\n"))
@example(text="é")
@example(text="\ud800")
def test_inline_content_is_bytes_or_an_invalid_request(text: str) -> None:
    content = content_of(InferenceRequest.model_construct(model="m", data=text))

    assert isinstance(content, bytes) or content.field == "data"


@given(request_id=st.text(min_size=1))
@example(request_id="é" * 512)
@example(request_id="é" * 513)
def test_a_request_id_fits_into_an_attribute(request_id: str) -> None:
    fits = len(request_id.encode()) <= REQUEST_ID_MAX_BYTES
    given = {"model": "m", "uri": "u", "request_id": request_id}

    if fits:
        assert InferenceRequest.parse(given).request_id == request_id
    else:
        with pytest.raises(InvalidRequest, match="^request_id: "):
            InferenceRequest.parse(given)


@given(
    outcome=st.builds(
        Outcome,
        status=st.sampled_from(Status),
        model_version=st.text(),
        outputs=st.lists(JSON, max_size=3),
        error=st.none() | st.builds(RequestError, type=st.text(), message=st.text()),
        timings_ms=st.builds(Timings, total=st.floats(0, 1e9), gpu=st.floats(0, 1e9)),
    )
)
def test_an_outcome_stays_the_same_over_the_wire(outcome: Outcome) -> None:
    assert Outcome.model_validate(through_json(outcome.to_wire())) == outcome


def test_the_present_is_a_time_that_counts() -> None:
    now = datetime.now(UTC)
    given = {"model": "m", "uri": "u"}

    assert InferenceRequest.parse({**given, "expires_at": (now - timedelta(seconds=1)).isoformat()}).expired()
    assert not InferenceRequest.parse({**given, "expires_at": (now + timedelta(hours=1)).isoformat()}).expired()

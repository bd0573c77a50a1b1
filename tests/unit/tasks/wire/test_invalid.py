from typing import Any

import pytest

from lowtide.tasks import InferenceRequest, InvalidRequest
from lowtide.tasks.wire.invalid import EXPECTED, named, shown


def test_every_field_has_words_for_what_is_expected() -> None:
    assert tuple(EXPECTED) == tuple(InferenceRequest.model_fields)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": 7}, "model: expected the name of a model, of at most 200 characters, got the number 7"),
        ({"model": "m" * 201}, "got a text of 201 characters"),
        ({"uri": {"a": 1}}, "uri: expected text such as gs://bucket/object, of at most 4096 characters, got an object"),
        ({"data": [137, 80, 78, 71]}, "data: expected base64 text, got an array of 4"),
        ({"data": {"string": "aGk="}}, 'got an object with the key "string": give the value without its Avro type'),
        ({"data": b"\xff\xd8"}, "data: expected base64 text, got 2 bytes"),
        ({"params": '{"top_k": 3}'}, 'params: expected an object with names as keys, got "{\\"top_k\\": 3}"'),
        ({"request_id": 4711.5}, "request_id: expected text, not empty, or a whole number, got the number 4711.5"),
        ({"request_id": ""}, 'request_id: expected text, not empty, or a whole number, got ""'),
        ({"request_id": True}, "got true"),
        ({"expires_at": 60}, "such as 2026-01-31T12:00:00Z, got the number 60"),
        ({"expires_at": "2026-01-31T12:00:00"}, 'with its offset, such as 2026-01-31T12:00:00Z, got "2026-01-31T12:'),
        ({"priority": "HIGH"}, 'priority: expected "high" or "normal", got "HIGH"'),
        ({"priority": "https://h/a?sig=hunter2"}, 'got "https://h/a?…"'),
        ({"uri": "data:image/png;base64,QUJD"}, "uri: is a data: URL, which is content: give it as data, without uri"),
        ({"requestId": "r"}, "requestId: is not a field of a request (is request_id meant?); fields are model, uri, "),
        ({"url": "u"}, "url: is not a field of a request (is uri meant?)"),
        ({"k" * 1000: "u"}, f"{'k' * 60}…: is not a field of a request; fields are"),
        ({"generation": "new"}, 'generation: expected a whole number above 0, got "new"'),
        ({"generation": 0}, "generation: expected a whole number above 0, got the number 0"),
        ({"uri": "https://h/a", "generation": 1}, "generation: is of an object of Cloud Storage, and uri names none"),
        ({"uri": None}, "uri, data: give exactly one of them, got neither"),
        ({"data": "aGk="}, "uri, data: give exactly one of them, got both"),
    ],
)
def test_an_error_says_what_is_expected_and_what_came(wrong: dict[str, Any], message: str) -> None:
    given = {"model": "m", "uri": "gs://b/o", **wrong}
    with pytest.raises(InvalidRequest) as caught:
        InferenceRequest.parse(given)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["x" * 61, b"x" * 61, ["x" * 61], {"x" * 61: 1}, 10**61, object()])
def test_what_is_long_is_told_by_its_kind(value: Any) -> None:
    assert "xxx" not in shown(value)
    assert len(shown(value)) < 40


def test_a_field_is_found_by_its_name_in_other_letters() -> None:
    assert named({"requestId": 5}, "request_id") == 5
    assert named({"request-id": 6}, "request_id") == 6
    assert named({"id": 7}, "request_id") is None

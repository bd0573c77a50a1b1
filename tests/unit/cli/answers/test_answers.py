import json

import pytest

from lowtide.bridge.messages.dead_letter import dead_letter
from lowtide.bridge.messages.kinds import Received
from lowtide.cli.answers.answers import NoResult, error_of, failed, is_dead_letter, read_dead_letter, read_result
from lowtide.cli.commands.results import line
from lowtide.tasks import InferenceResult

RESULT = {"request_id": "r", "model": "m", "status": "ok", "outputs": [{"label": "2"}], "error": None}


def message(data: bytes, **attributes: str) -> Received:
    return Received(subscription="s", ack_id="a", message_id="1", data=data, attributes=attributes, published_s=0.0)


def test_a_result_of_a_later_release_is_read_too() -> None:
    assert read_result(message(json.dumps({**RESULT, "new": 1}).encode()))["new"] == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"hello", "not JSON: 'hello'"),
        (b"\xff\xfe" * 100, "not JSON: '" + "\\xff\\xfe" * 20 + "'…"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"{}", "a JSON object without request_id"),
        (b'{"request_id": 1, "model": "m", "status": "ok"}', "a JSON object without request_id"),
        (json.dumps({**RESULT, "error": "text"}).encode(), "a JSON object whose error or outputs"),
        (json.dumps({**RESULT, "outputs": "text"}).encode(), "a JSON object whose error or outputs"),
    ],
)
def test_what_other_programs_write_is_no_result_and_says_what_it_is(data: bytes, said: str) -> None:
    with pytest.raises(NoResult) as caught:
        read_result(message(data))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "ok      m  r  2"),
        ({"status": "failed", "error": {"type": "t", "message": "because"}}, "failed  m  r  t: because"),
        ({"status": "failed", "error": {}}, "failed  m  r  failed"),
        ({"status": "expired"}, "expired m  r  expired"),
        ({"request_id": "\x1b[31m\n", "outputs": [{"label": "\x07"}]}, r"ok      m  \x1b[31m\n  \x07"),
        ({"outputs": None, "error": {"type": 1}}, "ok      m  r  "),
    ],
)
def test_a_result_is_one_line_that_a_terminal_does_not_obey(changes: dict[str, object], said: str) -> None:
    assert line(read_result(message(json.dumps({**RESULT, **changes}).encode()))) == said


def test_a_row_that_no_worker_has_written_has_the_fields_of_a_result() -> None:
    assert failed("r", "no_source", "why", model="m").keys() == InferenceResult.model_fields.keys()


def test_a_dead_letter_is_told_from_a_result_by_what_the_bridge_has_written() -> None:
    letter = dead_letter(
        message(json.dumps(RESULT).encode(), model="m"),
        topic="t",
        reason="no_model",
        error="why",
        tries=0,
        request_id="r",
    )
    received = message(letter.data, **letter.attributes)

    assert is_dead_letter(received)
    assert not is_dead_letter(message(b"{}"))
    assert error_of(read_dead_letter(received)) == ("no_model", "why")
    assert line(read_dead_letter(received, status="dead")) == "dead    m  r  no_model: why"


@pytest.mark.parametrize("error", [None, {}, {"type": None}, {"type": ""}, "boom", ["boom"]])
def test_a_failure_without_a_type_is_called_by_its_status(error: object) -> None:
    assert error_of({"request_id": "r", "status": "failed", "error": error}) == ("failed", "")

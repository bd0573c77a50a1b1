from hypothesis import given
from hypothesis import strategies as st

from lowtide.bridge.messages.dead_letter import MESSAGE_MAX_BYTES, cut, dead_letter
from lowtide.bridge.messages.kinds import OutgoingMessage
from lowtide.bridge.pubsub.client import PublishRequest, message_of
from lowtide.local.pubsub import limits
from lowtide.local.pubsub.resources import Content
from tests.unit.bridge.received import received

TOPIC = "projects/p/topics/dead"


def letter(data: bytes = b"{", error: str = "why", request_id: str = "17", **attributes: str) -> OutgoingMessage:
    original = received(data=data, attributes=attributes)
    return dead_letter(original, topic=TOPIC, reason="malformed_json", error=error, tries=2, request_id=request_id)


def check_service_would_take(sent: OutgoingMessage) -> None:
    request = PublishRequest(topic=sent.topic, messages=[message_of(sent.data, sent.attributes)])
    limits.check_request_bytes(request.ByteSize())
    limits.check_contents([Content(data=sent.data, attributes=sent.attributes, ordering_key="")])


def test_it_is_the_original_and_the_reason() -> None:
    sent = letter(b"data", color="red")

    assert sent == OutgoingMessage(
        topic=TOPIC,
        data=b"data",
        attributes={
            "color": "red",
            "lowtide_reason": "malformed_json",
            "lowtide_error": "why",
            "lowtide_attempts": "3",
            "lowtide_request_id": "17",
        },
    )


def test_the_reason_names_a_signed_url_without_its_signature() -> None:
    sent = letter(error="unknown_model: https://h/a.jpg?sig=hunter2 is not served here")

    assert sent.attributes["lowtide_error"] == "unknown_model: https://h/a.jpg?… is not served here"


def test_a_hundred_attributes_leave_room_for_the_reason() -> None:
    sent = letter(**{f"n{index:03}": "v" for index in range(100)})

    assert len(sent.attributes) == 100
    assert sum(name.startswith("n") for name in sent.attributes) == 96
    check_service_would_take(sent)


def test_what_belongs_to_google_and_what_an_earlier_letter_said_is_left_out() -> None:
    sent = letter(googclient_x="1", googX="2", lowtide_reason="old", lowtide_truncated="true", good="3")

    assert sent.attributes["lowtide_reason"] == "malformed_json"
    assert {"googclient_x", "googX", "lowtide_truncated"}.isdisjoint(sent.attributes)
    assert sent.attributes["good"] == "3"


def test_a_long_error_is_cut_between_characters() -> None:
    sent = letter(error="é" * 2000)

    assert sent.attributes["lowtide_error"] == "é" * 500
    assert letter(error="x" + "é" * 2000).attributes["lowtide_error"] == "x" + "é" * 499
    check_service_would_take(sent)


def test_a_message_of_9_9_megabytes_goes_whole() -> None:
    sent = letter(b"x" * 9_900_000, error="e" * 5000)

    assert len(sent.data) == 9_900_000
    check_service_would_take(sent)


def test_data_is_dropped_when_the_whole_would_be_too_large() -> None:
    sent = letter(b"x" * MESSAGE_MAX_BYTES, **{f"n{index:03}": "v" * 1024 for index in range(100)})

    assert sent.data == b""
    assert sent.attributes["lowtide_truncated"] == "true"
    assert len(sent.attributes) == 100
    check_service_would_take(sent)


@given(text=st.text(st.characters()), size=st.integers(0, 40))
def test_cut_is_valid_utf8_of_at_most_so_many_bytes(text: str, size: int) -> None:
    assert len(cut(text, size).encode()) <= size

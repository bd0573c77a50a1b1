from typing import Any

from lowtide.bridge.flight import InFlight
from lowtide.bridge.messages import Received, Translated
from lowtide.tasks.wire import InferenceRequest


def item(**content: Any) -> Translated:
    received = Received(subscription="s", ack_id="k", message_id="1", data=b"", attributes={}, published_s=0.0)
    request = InferenceRequest.parse({"model": "m", **content}, travelled=True)
    return Translated(received=received, request=request, reply_topic="t")


def test_content_is_outstanding_until_all_messages_of_its_chunk_are_settled() -> None:
    """Until then it is in Redis."""
    in_flight = InFlight()
    in_flight.launch("a", [item(data=b"12345"), item(data=b"123")])
    in_flight.launch("b", [item(uri="gs://b/o")])
    assert in_flight.content_bytes == 8

    in_flight.land("a")
    in_flight.land("b")
    assert in_flight.settled(["a", "b"]) == ["b"]
    assert in_flight.content_bytes == 8
    assert in_flight.settled(["a", "a", None, "b"]) == ["a"]
    assert in_flight.content_bytes == 0

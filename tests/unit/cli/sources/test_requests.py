import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lowtide.bridge.messages.kinds import Received, Translated
from lowtide.bridge.messages.translate import Rules, translate
from lowtide.bridge.pubsub.client import Pb, PubsubRefused, message_of, publish_each
from lowtide.cli.sources.requests import fitting, publish_all, request_message
from lowtide.cli.sources.sources import INLINE_MAX_BYTES, NoSource, Source
from lowtide.local.pubsub import limits
from lowtide.local.pubsub.resources import Content

RULES = Rules(models=frozenset({"m", "other"}), default_model=None, results_topic="r", reply_topics={})


def checked(message: Pb) -> Pb:
    """A message that the real service would take."""
    attributes = dict(message.attributes)
    limits.check_contents([Content(data=message.data, attributes=attributes, ordering_key="")])
    limits.check_request_bytes(message.ByteSize() + 100)
    return message


def asked(message: Pb) -> Translated:
    """What a bridge takes it for."""
    received = Received(
        subscription="s",
        ack_id="a",
        message_id="1",
        data=message.data,
        attributes=dict(message.attributes),
        published_s=0.0,
    )
    translated = translate(received, RULES)
    assert isinstance(translated, Translated), translated
    return translated


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG",
        b"\xff\xd8jpeg",
        b'{"request_id": "other", "model": "other", "uri": "file:///etc/passwd"}',
        b' \n\xef\xbb\xbf{"uri": "gs://b/secret", "model": "other"}',
        '{"uri": "gs://b/secret"}'.encode("utf-16"),
        b"[1]",
        b"\x1f\x8b\x08",
        b"{" + b" " * (INLINE_MAX_BYTES - 1),
    ],
)
def test_what_a_file_holds_is_content_whatever_it_looks_like(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    source = Source(request_id="mine", path=file)

    request = asked(checked(request_message(source, "m", {"top_k": 1}, attributes={"x-a": "1"}))).request

    assert (request.request_id, request.model, request.uri) == ("mine", "m", None)
    assert request.params == {"top_k": 1}
    assert request.content() == content


def test_what_no_bridge_could_take_for_a_request_travels_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG")
    message = request_message(Source(request_id="mine", path=file), "m", {})

    assert message.data == b"\x89PNG"
    assert dict(message.attributes) == {"lowtide_content": "raw", "request_id": "mine", "model": "m"}


def test_a_bridge_that_knows_no_raw_content_takes_no_file_for_a_request_either(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b'{"model": "other", "uri": "gs://b/secret"}')
    message = request_message(Source(request_id="mine", path=file), "m", {})

    assert json.loads(message.data).keys() == {"request_id", "model", "data"}


def test_parameters_that_no_attribute_could_hold_travel_in_the_data(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG")
    params = {"prompt": "long " * 1000}

    request = asked(checked(request_message(Source(request_id="a", path=file), "m", params))).request

    assert request.params == params


def test_an_id_of_any_length_fits_and_none_becomes_another() -> None:
    long = "é" * 2000
    sent = [
        asked(checked(request_message(Source(request_id=name, uri="gs://b/o"), "m", {}))).request_id
        for name in (long, long + "x")
    ]

    assert len(set(sent)) == 2
    assert all(len(name.encode()) <= 1024 for name in sent)
    assert fitting("é" * 512) == "é" * 512


def test_a_message_that_pubsub_could_not_carry_is_no_source() -> None:
    with pytest.raises(NoSource, match="larger than Pub/Sub's"):
        request_message(Source(request_id="u", uri="gs://b/" + "x" * 10_000_000), "m", {})


def test_of_many_messages_only_those_that_pubsub_refuses_fail() -> None:
    calls: list[int] = []

    def publish(topic: str, messages: Sequence[Pb]) -> Sequence[str]:
        calls.append(len(messages))
        if any(message.data == b"bad" for message in messages):
            raise PubsubRefused("INVALID_ARGUMENT", "no")
        return [f"id-{message.data.decode()}" for message in messages]

    datas = [b"bad" if number in (7, 40) else str(number).encode() for number in range(64)]
    sent = publish_each(publish, "t", [message_of(data, {}) for data in datas])

    assert [each if isinstance(each, str) else each.code for each in sent] == [
        "INVALID_ARGUMENT" if number in (7, 40) else f"id-{number}" for number in range(64)
    ]
    assert len(calls) < 30


def test_what_pubsub_says_of_the_topic_is_no_fault_of_a_message() -> None:
    def publish(topic: str, messages: Sequence[Pb]) -> Sequence[str]:
        raise PubsubRefused("NOT_FOUND", "no topic")

    with pytest.raises(PubsubRefused):
        publish_each(publish, "t", [message_of(b"a", {}), message_of(b"b", {})])


class Publishing:
    """A Pub/Sub that counts, and refuses what holds `bad`."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    def publish(self, topic: str, messages: Sequence[Pb]) -> list[str]:
        self.groups.append(len(messages))
        if any(b"bad" in message.data for message in messages):
            raise PubsubRefused("INVALID_ARGUMENT", "bad")
        return [message.data.decode() for message in messages]


def made(name: str) -> Pb:
    if name.startswith("missing"):
        raise NoSource(name)
    return message_of(name.encode() if name != "large" else b"x" * 9_000_000, {})


def test_sources_are_published_many_at_a_time_and_told_of_in_their_order() -> None:
    names = ["missing 0", *(f"{number}" for number in range(150)), "missing 1", "missing 2"]
    pubsub = Publishing()

    told = list(publish_all(pubsub, "t", names, made))

    assert [name for name, _ in told] == names
    assert [str(sent) for _, sent in told] == names
    assert pubsub.groups == [64, 64, 22]


def test_one_that_is_refused_or_missing_beside_large_ones_is_told_of_alone() -> None:
    names = ["a", "missing 0", "large", "missing 1", "b", "large", "bad", "c", "missing 2"]

    told = dict(enumerate(publish_all(Publishing(), "t", names, made)))

    assert [name for name, _ in told.values()] == names
    assert isinstance(told[6][1], PubsubRefused)
    assert [number for number, (_, sent) in told.items() if not isinstance(sent, str)] == [1, 3, 6, 8]


def test_nothing_is_published_of_nothing() -> None:
    pubsub = Publishing()

    assert list(publish_all(pubsub, "t", [], made)) == []
    assert [str(sent) for _, sent in publish_all(pubsub, "t", ["missing"], made)] == ["missing"]
    assert pubsub.groups == []

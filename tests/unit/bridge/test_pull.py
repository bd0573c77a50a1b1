import gzip
import uuid
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis import RedisError

from lowtide.bridge import pull
from lowtide.bridge.credit import Fleet
from lowtide.bridge.flow_control import HOLD_MAX_BYTES, FlowControl
from lowtide.bridge.held.held import Held
from lowtide.bridge.held.records import Record
from lowtide.bridge.messages import reader
from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import Ending, OutgoingMessage, Received, Translated
from lowtide.bridge.messages.reader import Reader
from lowtide.bridge.messages.translate import Rules
from lowtide.bridge.pull import REST_S, Puller
from lowtide.bridge.waits import Waits
from lowtide.config import load_settings
from lowtide.config.process.outage import Outage
from lowtide.tasks.chunks.packing import Packing
from lowtide.tasks.chunks.sending import Chunk
from lowtide.tasks.wire.request import InferenceRequest
from tests.unit.bridge.received import received

SETTINGS = load_settings(project="p", models="a")


class Outside:
    """Everything that a puller pulls from and hands to."""

    def __init__(self, messages: Sequence[Received]) -> None:
        self.messages = list(messages)
        self.sent: list[Chunk] = []
        self.held = Held()
        self.workers, self.packing = 1, Packing()
        self.ready, self.behind = True, False
        self.redis_max_bytes = 0
        self.asked: list[int] = []
        self.handed_back: list[str] = []

    def read(self) -> Fleet:
        return Fleet(workers=1, bridges=1, waiting=0, redis_max_bytes=self.redis_max_bytes)

    def ask(self, credit: int) -> None:
        self.asked.append(credit)

    def take(self, timeout_s: float) -> list[Received]:
        messages, self.messages = self.messages, []
        return messages

    def look_up(self, keys: Sequence[str]) -> list[Record]:
        return [Record(claim=None, tries=2) for _ in keys]

    def new_task_id(self) -> str:
        return uuid.uuid4().hex

    def send(self, chunks: Sequence[Chunk]) -> None:
        self.sent += chunks

    def send_again(self) -> None:
        self.behind = False

    @property
    def ended(self) -> list[Any]:
        with self.held.to_settle.take(100, timeout_s=0.0) as ended:
            return ended

    def hand_back(self, keys: Sequence[str], *, after_s: float) -> None:
        self.handed_back += keys

    def puller(self, *, again_s: float = 0.0) -> Puller:
        outside: Any = self
        return Puller(
            pulls=outside,
            held=self.held,
            leaser=outside,
            records=outside,
            reader=Reader(Rules.of(SETTINGS), Endings(SETTINGS)),
            dispatch=outside,
            fleet=outside,
            flow=FlowControl(
                models=["a"], fleet=outside, held=self.held, dispatch=outside, dead_letters=Outage("dead")
            ),
            waits=Waits(again_s=again_s),
        )


def message(message_id: str) -> Received:
    data = f'{{"model": "a", "uri": "gs://b/{message_id}", "request_id": "mine"}}'.encode()
    return received(message_id, data)


def sent_uris(outside: Outside) -> list[str]:
    return [request["uri"] for chunk in outside.sent for request in chunk.requests]


@pytest.mark.parametrize("failing", ["translate", "to_chunk"])
def test_a_message_that_we_fail_on_becomes_a_dead_letter_and_its_neighbours_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    module = reader if failing == "translate" else pull
    usual = getattr(module, failing)

    def fails_on_the_third(*args: Any) -> Any:
        given = args[0] if failing == "translate" else args[1]
        messages = [given] if failing == "translate" else [item.received for item in given]
        if any(one.message_id == "3" for one in messages):
            raise RecursionError("this is a mistake of ours")
        return usual(*args)

    monkeypatch.setattr(module, failing, fails_on_the_third)
    outside = Outside([message(str(number)) for number in range(7)])
    outside.puller().turn()

    assert sent_uris(outside) == [f"gs://b/{number}" for number in (0, 1, 2, 4, 5, 6)]
    assert outside.held.requests == 6
    assert {chunk.task_id for chunk in outside.held.chunks()} == {chunk.task_id for chunk in outside.sent}
    [ending] = outside.ended
    assert (ending.key, ending.tries) == ("s:3", 2)
    assert ending.outgoing.topic == "projects/p/topics/lowtide-dead-letters"
    assert ending.outgoing.data == message("3").data
    assert ending.outgoing.attributes == {
        "lowtide_reason": "internal_error",
        "lowtide_error": "RecursionError",
        "lowtide_attempts": "3",
        "lowtide_request_id": "3",
    }
    assert "message s:3 becomes a dead letter" in caplog.text
    assert "this is a mistake of ours" in caplog.text


@pytest.mark.parametrize(
    ("messages_bytes", "outgoing_bytes", "pulls"),
    [(0, HOLD_MAX_BYTES, False), (1000, HOLD_MAX_BYTES - 1000, False), (1000, HOLD_MAX_BYTES - 5000, True)],
)
def test_results_that_wait_to_be_published_count_as_memory_and_stop_the_pulling(
    messages_bytes: int, outgoing_bytes: int, pulls: bool
) -> None:
    outside = Outside([])
    outside.held.add([replace(message("1"), data=b"x" * messages_bytes)])
    outgoing = OutgoingMessage(topic="t", data=b"x" * outgoing_bytes, attributes={})
    outside.held.to_settle.put([Ending(received=message("2"), outgoing=outgoing, request_id="r", tries=0)])
    outside.puller().turn()

    assert [credit > 0 for credit in outside.asked] == [pulls]


@pytest.mark.parametrize(("outstanding_bytes", "pulls"), [(400, True), (500, False)])
def test_content_stops_the_pulling_when_the_bridges_share_of_redis_is_used_up(
    outstanding_bytes: int, pulls: bool
) -> None:
    outside = Outside([])
    outside.redis_max_bytes = 1000
    request = InferenceRequest.parse({"model": "a", "data": bytes(outstanding_bytes)}, travelled=True)
    outside.held.sent("t", [Translated(received=message("1"), request=request, reply_topic="t")])
    outside.puller().turn()

    assert [credit > 0 for credit in outside.asked] == [pulls]


@pytest.mark.parametrize(("held_mb", "kept"), [(0, 4), (240, 3), (250, 2), (400, 1)])
def test_packed_messages_that_are_too_much_together_go_back_but_for_one(held_mb: int, kept: int) -> None:
    packed = gzip.compress(b'{"model": "a", "uri": "gs://b/c"' + b" " * 8_000_000 + b"}")
    outside = Outside([replace(message(str(number)), data=packed) for number in range(4)])
    outside.held.add([replace(message("held"), data=b"x" * held_mb * 1_000_000)])
    outside.puller().turn()

    assert outside.held.requests == kept
    assert outside.handed_back == [f"s:{number}" for number in range(kept, 4)]


def test_what_must_be_sent_again_is_sent_before_anything_is_pulled() -> None:
    outside = Outside([message("1")])
    outside.behind = True
    outside.puller().turn()
    assert (outside.asked, outside.sent, outside.behind) == ([], [], False)


def test_while_redis_is_away_a_turn_is_short_and_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is seen after a turn, and a grace period may be short."""
    outside, asked, slept_s = Outside([]), list[None](), list[float]()
    monkeypatch.setattr("lowtide.bridge.pull.time", SimpleNamespace(monotonic=lambda: 0.0, sleep=slept_s.append))

    def away() -> None:
        asked.append(None)
        raise RedisError("away")

    outside.behind, outside.send_again = True, away
    puller = outside.puller(again_s=5.0)
    for _ in range(5):
        puller.turn()

    assert slept_s == [REST_S] * 4
    assert len(asked) == 1


def test_what_was_pulled_waits_for_a_redis_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = Outside([message("1"), message("2")])
    puller = outside.puller()
    with monkeypatch.context() as away:
        away.setattr(outside, "look_up", lambda keys: (_ for _ in ()).throw(RedisError("away")))
        puller.turn()
        puller.turn()
    assert (len(outside.held.pulled), sent_uris(outside)) == (2, [])
    puller.turn()
    assert sent_uris(outside) == ["gs://b/1", "gs://b/2"]

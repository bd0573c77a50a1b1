import gzip
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lowtide.bridge import intake as intake_module
from lowtide.bridge.credit import Fleet
from lowtide.bridge.endings import Endings
from lowtide.bridge.flight import InFlight
from lowtide.bridge.intake import HOLD_MAX_BYTES, Intake
from lowtide.bridge.leases import Leases
from lowtide.bridge.messages import Ending, Received, Translated
from lowtide.bridge.records import Record
from lowtide.bridge.translate import Rules
from lowtide.config import load_settings
from lowtide.tasks.chunks import Chunk
from lowtide.tasks.packing import Packing
from lowtide.tasks.wire import InferenceRequest

SETTINGS = load_settings(project="p", models="a")


class Outside:
    """Everything that an intake pulls from and hands to."""

    def __init__(self, messages: Sequence[Received]) -> None:
        self.messages = list(messages)
        self.ended: list[Ending] = []
        self.sent: list[Chunk] = []
        self.in_flight, self.leases = InFlight(), Leases()
        self.workers, self.packing = 1, Packing()
        self.dead_letters = SimpleNamespace(on=False)
        self.held_bytes = 0
        self.redis_max_bytes = 0
        self.asked: list[int] = []
        self.handed_back: list[str] = []

    def __len__(self) -> int:
        return 0

    def read(self) -> Fleet:
        return Fleet(workers=1, bridges=1, waiting=0, redis_max_bytes=self.redis_max_bytes)

    def ask(self, credit: int) -> None:
        self.asked.append(credit)

    def take(self, timeout_s: float) -> list[Received]:
        messages, self.messages = self.messages, []
        return messages

    def look_up(self, keys: Sequence[str]) -> list[Record]:
        return [Record(claim=None, tries=2) for _ in keys]

    def watch(self, task_id: str) -> None: ...

    def send(self, chunks: Sequence[Chunk], *, again: bool) -> None:
        self.sent += chunks

    def put(self, things: Any) -> None:
        self.ended += things

    def hand_back(self, keys: Sequence[str], *, after_s: float) -> None:
        self.handed_back += keys

    def intake(self) -> Intake:
        outside: Any = self
        return Intake(
            pulls=outside,
            leases=self.leases,
            leaser=outside,
            records=outside,
            gauge=outside,
            in_flight=self.in_flight,
            sender=outside,
            results=outside,
            settler=outside,
            acker=outside,
            endings=Endings(SETTINGS),
            collector=SimpleNamespace(ready=True),  # type: ignore[arg-type]
            rules=Rules.of(SETTINGS),
            owner="b",
            stopped=threading.Event(),
        )


def message(message_id: str) -> Received:
    data = f'{{"model": "a", "uri": "gs://b/{message_id}", "request_id": "mine"}}'.encode()
    return Received(
        subscription="s", ack_id=message_id, message_id=message_id, data=data, attributes={}, published_s=0.0
    )


def sent_uris(outside: Outside) -> list[str]:
    return [request["uri"] for chunk in outside.sent for request in chunk.requests]


@pytest.mark.parametrize("failing", ["translate", "to_chunk"])
def test_a_message_that_we_fail_on_becomes_a_dead_letter_and_its_neighbours_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    usual = getattr(intake_module, failing)

    def fails_on_the_third(*args: Any) -> Any:
        given = args[0] if failing == "translate" else args[1]
        received = [given] if failing == "translate" else [item.received for item in given]
        if any(one.message_id == "3" for one in received):
            raise RecursionError("this is a mistake of ours")
        return usual(*args)

    monkeypatch.setattr(intake_module, failing, fails_on_the_third)
    outside = Outside([message(str(number)) for number in range(7)])
    outside.intake().turn()

    assert sent_uris(outside) == [f"gs://b/{number}" for number in (0, 1, 2, 4, 5, 6)]
    assert outside.in_flight.requests == 6
    assert {flight.task_id for flight in outside.in_flight.older_than(0.0)} == {chunk.task_id for chunk in outside.sent}
    [ending] = outside.ended
    assert (ending.key, ending.task_id, ending.tries) == ("s:3", None, 2)
    assert ending.letter.topic == "projects/p/topics/lowtide-dead-letters"
    assert ending.letter.data == message("3").data
    assert ending.letter.attributes == {
        "lowtide_reason": "internal_error",
        "lowtide_error": "RecursionError",
        "lowtide_attempts": "3",
        "lowtide_request_id": "3",
    }
    assert "message s:3 becomes a dead letter" in caplog.text
    assert "this is a mistake of ours" in caplog.text


@pytest.mark.parametrize(
    ("messages_bytes", "letters_bytes", "pulls"),
    [(0, HOLD_MAX_BYTES, False), (1000, HOLD_MAX_BYTES - 1000, False), (1000, HOLD_MAX_BYTES - 5000, True)],
)
def test_results_that_wait_to_be_published_count_as_memory_and_stop_the_pulling(
    messages_bytes: int, letters_bytes: int, pulls: bool
) -> None:
    outside = Outside([])
    outside.leases.add([replace(message("1"), data=b"x" * messages_bytes)])
    outside.held_bytes = letters_bytes
    outside.intake().turn()

    assert [credit > 0 for credit in outside.asked] == [pulls]


@pytest.mark.parametrize(("outstanding_bytes", "pulls"), [(400, True), (500, False)])
def test_content_stops_the_pulling_when_the_bridges_share_of_redis_is_used_up(
    outstanding_bytes: int, pulls: bool
) -> None:
    outside = Outside([])
    outside.redis_max_bytes = 1000
    request = InferenceRequest.parse({"model": "a", "data": bytes(outstanding_bytes)}, travelled=True)
    outside.in_flight.launch("t", [Translated(received=message("1"), request=request, reply_topic="t")])
    outside.intake().turn()

    assert [credit > 0 for credit in outside.asked] == [pulls]


@pytest.mark.parametrize(("held_mb", "kept"), [(0, 4), (240, 3), (250, 2), (400, 1)])
def test_packed_messages_that_are_too_much_together_go_back_but_for_one(held_mb: int, kept: int) -> None:
    packed = gzip.compress(b'{"model": "a", "uri": "gs://b/c"' + b" " * 8_000_000 + b"}")
    outside = Outside([replace(message(str(number)), data=packed) for number in range(4)])
    outside.leases.add([replace(message("held"), data=b"x" * held_mb * 1_000_000)])
    outside.intake().turn()

    assert outside.in_flight.requests == kept
    assert outside.handed_back == [f"s:{number}" for number in range(kept, 4)]

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.bridge.messages.dead_letter import ORIGINALS_MAX, dead_letter
from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.messages.translate import ATTRIBUTES
from lowtide.bridge.pubsub.client import PUBLISH_AT_ONCE, Pb, PubsubRefused, PubsubUnavailable, PullResponse
from lowtide.bridge.replay import PULL_AT_ONCE, TRIES, Became, Choice, Replay, reason_of, request_of, why_not
from tests.unit.bridge.received import received

NAMES = st.sampled_from([*ATTRIBUTES, "x-a", "ce-type", "eventType", "other"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: not name.startswith(("goog", "lowtide_")))
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def buried(data: bytes = b"", message_id: str = "17", published_s: float = 100.0, **attributes: str) -> Received:
    return received(message_id, data, subscription="dead", attributes=attributes, published_s=published_s)


def letter_of(original: Received, reason: str = "no_model") -> Received:
    letter = dead_letter(original, topic="t", reason=reason, error="why", tries=1, request_id=original.message_id)
    return received(data=letter.data, subscription="dead", attributes=letter.attributes, published_s=100.0)


@given(data=st.binary(), attributes=st.dictionaries(NAMES, VALUES, max_size=ORIGINALS_MAX))
def test_a_replayed_letter_is_the_message_that_was_published_first(data: bytes, attributes: dict[str, str]) -> None:
    request = request_of(letter_of(received(data=data, attributes=attributes)))

    assert (request.data, dict(request.attributes)) == (data, attributes)


def test_a_request_without_an_id_of_its_own_gets_a_new_one_and_another_keeps_its_own() -> None:
    assert "request_id" not in request_of(letter_of(buried(b"x", model="a"))).attributes
    assert request_of(letter_of(buried(b"x", request_id="mine"))).attributes["request_id"] == "mine"


def test_what_a_request_is_made_of_survives_a_hundred_attributes() -> None:
    meant = dict.fromkeys((*ATTRIBUTES, "ce-type", "eventType", "bucketId", "objectId"), "v")
    noise = {f"a{number:02}": "v" for number in range(100 - len(meant))}

    kept = request_of(letter_of(buried(b"x", **noise, **meant))).attributes

    assert kept.items() >= meant.items()
    assert len(kept) == ORIGINALS_MAX


def test_a_letter_that_lost_its_data_or_is_empty_cannot_be_replayed() -> None:
    assert why_not(letter_of(buried(b"x" * 9_999_000))) is Became.TRUNCATED
    assert why_not(letter_of(buried(b"", googclient="1"))) is Became.EMPTY
    assert why_not(letter_of(buried(b"", model="a"))) is None
    assert why_not(letter_of(buried(b"x"))) is None


def test_letters_are_chosen_by_reason_and_age() -> None:
    letter = letter_of(buried(b"x"), reason="no_model")  # published at 100 s

    assert Choice(before_s=100.1).takes(letter)
    assert not Choice(before_s=100.0).takes(letter)
    assert Choice(before_s=101, after_s=100).takes(letter)
    assert not Choice(before_s=101, after_s=100.1).takes(letter)
    assert Choice(before_s=101, reasons=frozenset({"no_model", "worker_lost"})).takes(letter)
    assert not Choice(before_s=101, reasons=frozenset({"worker_lost"})).takes(letter)
    assert reason_of(buried(b"x")) == ""


class FakePubsub:
    """A dead-letter subscription that delivers what is there once, and fails when it is told to."""

    def __init__(self, *letters: Received) -> None:
        self.letters = list(letters)
        self.calls: list[tuple[str, Any]] = []
        self.failures: dict[str, list[Exception]] = {}
        self.late: list[Received] = []
        """What comes as soon as it is asked whether it answers."""

    def check_answers(self, subscription: str) -> None:
        self._call("check", subscription)
        self.letters, self.late = self.late, []

    def pull(self, subscription: str, max_messages: int) -> Any:
        response = PullResponse()
        for letter in self.letters[:max_messages]:
            response.received_messages.add(
                ack_id=letter.ack_id,
                message={
                    "data": letter.data,
                    "attributes": letter.attributes,
                    "message_id": letter.message_id,
                    "publish_time": {"seconds": int(letter.published_s)},
                },
            )
        del self.letters[:max_messages]
        return SimpleNamespace(
            add_done_callback=lambda done: done(None),
            result=lambda: response,
            cancel=lambda: None,
            cancelled=lambda: True,
        )

    def publish(self, topic: str, messages: Sequence[Pb]) -> Sequence[str]:
        self._call("publish", [message.data for message in messages])
        return [f"new-{message.data.decode()}" for message in messages]

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        self._call("acknowledge", ack_ids)

    def modify_ack_deadline(self, subscription: str, ack_ids: Sequence[str], lease_s: int) -> None:
        self._call(f"lease for {lease_s}", sorted(ack_ids))

    def _call(self, what: str, argument: Any) -> None:
        if failures := self.failures.get(what):
            raise failures.pop(0)
        self.calls.append((what, argument))


def letters(count: int, **attributes: str) -> list[Received]:
    return [
        buried(str(number).encode(), f"{number}", lowtide_reason="no_model", **attributes) for number in range(count)
    ]


def replay_of(pubsub: FakePubsub, **fields: Any) -> Replay:
    given = {"choice": Choice(before_s=1000.0), "idle_s": 0.2, "again_s": 0.0, **fields}
    return Replay(pubsub, subscription="dead", topic="requests", **given)


def run(pubsub: FakePubsub, **fields: Any) -> list[tuple[str, str | None]]:
    with replay_of(pubsub, **fields) as replay:
        return [(one.became.value, one.message_id) for one in replay.run()]


def test_a_letter_is_acknowledged_after_its_request_was_confirmed() -> None:
    pubsub = FakePubsub(*letters(2))

    assert run(pubsub) == [("replayed", "new-0"), ("replayed", "new-1")]
    assert pubsub.calls == [("publish", [b"0", b"1"]), ("acknowledge", ["ack-0", "ack-1"]), ("check", "dead")]


def test_letters_that_come_at_once_go_in_as_many_publishes_as_pubsub_allows() -> None:
    pubsub = FakePubsub(*letters(PULL_AT_ONCE))

    assert len(run(pubsub)) == PULL_AT_ONCE
    assert [len(requests) for what, requests in pubsub.calls if what == "publish"] == [
        PUBLISH_AT_ONCE,
        PULL_AT_ONCE - PUBLISH_AT_ONCE,
    ]


def test_what_is_not_chosen_is_handed_back_at_the_end() -> None:
    others = [buried(b"9", "9", lowtide_reason="worker_lost"), buried(b"", "8", lowtide_truncated="true")]
    pubsub = FakePubsub(*letters(3), *others)

    with replay_of(pubsub, limit=2, choice=Choice(before_s=1000.0, reasons=frozenset({"no_model"}))) as one:
        assert len(list(one.run())) == 2
        assert [what for what, _ in pubsub.calls] == ["publish", "acknowledge"]
        assert dict(one.left) == {"worker_lost": 1, "": 1}
    assert pubsub.calls[2:] == [("lease for 0", ["ack-2", "ack-8", "ack-9"])]


def test_a_dry_run_hands_everything_back() -> None:
    pubsub = FakePubsub(*letters(2))

    assert run(pubsub, dry_run=True) == [("listed", None), ("listed", None)]
    assert pubsub.calls == [("check", "dead"), ("lease for 0", ["ack-0", "ack-1"])]


def test_what_no_bridge_has_written_is_put_back_only_when_it_is_asked_for() -> None:
    foreign = buried(b"9", "9")

    assert run(FakePubsub(foreign, *letters(1))) == [("replayed", "new-0")]
    assert run(FakePubsub(foreign), choice=Choice(before_s=1000.0, foreign=True)) == [("replayed", "new-9")]


def test_a_letter_that_pubsub_refuses_stays_alone() -> None:
    pubsub = FakePubsub(*letters(3))
    take = pubsub.publish

    def publish(topic: str, messages: Sequence[Pb]) -> Sequence[str]:
        if any(message.data == b"1" for message in messages):
            raise PubsubRefused("INVALID_ARGUMENT", "no")
        return take(topic, messages)

    pubsub.publish = publish

    assert run(pubsub) == [("replayed", "new-0"), ("refused", None), ("replayed", "new-2")]
    assert pubsub.calls[-3:] == [("acknowledge", ["ack-0", "ack-2"]), ("check", "dead"), ("lease for 0", ["ack-1"])]


@pytest.mark.parametrize("call", ["publish", "check"])
def test_an_unanswered_call_is_made_again(call: str) -> None:
    pubsub = FakePubsub(*letters(1))
    pubsub.failures[call] = [PubsubUnavailable("UNAVAILABLE", "away")] * (TRIES - 1)

    assert run(pubsub) == [("replayed", "new-0")]


@pytest.mark.parametrize(
    "failures",
    [[PubsubUnavailable("UNAVAILABLE", "away")] * TRIES, [PubsubRefused("NOT_FOUND", "no topic")]],
)
def test_a_publish_that_fails_for_good_leaves_the_letters(failures: list[Exception]) -> None:
    pubsub = FakePubsub(*letters(2))
    pubsub.failures["publish"] = failures

    with pytest.raises(type(failures[0])):
        run(pubsub)
    assert pubsub.calls == [("lease for 0", ["ack-0", "ack-1"])]


def test_a_pubsub_that_stays_away_is_not_taken_for_an_empty_subscription() -> None:
    pubsub = FakePubsub()
    pubsub.pull = lambda *_: (_ for _ in ()).throw(PubsubUnavailable("UNAVAILABLE", "away"))

    with pytest.raises(PubsubUnavailable):
        run(pubsub)


def test_a_pubsub_that_stood_still_is_not_taken_for_an_empty_subscription() -> None:
    pubsub = FakePubsub(*letters(1))
    pubsub.late = [buried(b"late", "9", lowtide_reason="no_model")]

    assert run(pubsub) == [("replayed", "new-0"), ("replayed", "new-late")]


@pytest.mark.parametrize("when", ["publish", "acknowledge"])
def test_ctrl_c_at_any_moment_loses_nothing(when: str) -> None:
    pubsub = FakePubsub(*letters(2))
    pubsub.failures[when] = [KeyboardInterrupt()]

    with pytest.raises(KeyboardInterrupt):
        run(pubsub)
    assert "acknowledge" not in dict(pubsub.calls)
    assert pubsub.calls[-1] == ("lease for 0", ["ack-0", "ack-1"])


def test_a_letter_that_is_delivered_again_is_put_back_once() -> None:
    pubsub = FakePubsub(*letters(1), *letters(1))

    assert run(pubsub) == [("replayed", "new-0")]

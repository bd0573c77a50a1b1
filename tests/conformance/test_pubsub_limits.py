"""Limits of the real service. Ours keeps all; where the emulator is lax, the row says so and the test checks it."""

from datetime import timedelta

import pytest
from google.api_core.exceptions import InvalidArgument

REFUSED_BY_BOTH, LAX_EMULATOR = False, True
BACKOFF_UPSIDE_DOWN = {"minimum_backoff": timedelta(seconds=20), "maximum_backoff": timedelta(seconds=15)}


def check(bench, attempt, *, lax):
    if lax and bench.kind == "emulator":
        attempt()
        return
    with pytest.raises(InvalidArgument) as refusal:
        attempt()
    if bench.kind == "ours":
        assert len(refusal.value.message) > 15, "a refusal has to say what was wrong"


@pytest.mark.parametrize(
    ("messages", "lax"),
    [
        pytest.param([], REFUSED_BY_BOTH, id="no messages"),
        pytest.param([{}], REFUSED_BY_BOTH, id="an empty message"),
        pytest.param([{"data": b"x"}] * 1001, REFUSED_BY_BOTH, id="1001 messages"),
        pytest.param([{"attributes": {str(n): "" for n in range(101)}}], LAX_EMULATOR, id="101 attributes"),
        pytest.param([{"attributes": {"k" * 257: ""}}], LAX_EMULATOR, id="a key of 257 bytes"),
        pytest.param([{"attributes": {"key": "v" * 1025}}], LAX_EMULATOR, id="a value of 1025 bytes"),
        pytest.param([{"attributes": {"key": "é" * 513}}], LAX_EMULATOR, id="a value of 1026 bytes in UTF-8"),
        pytest.param([{"attributes": {"googkey": "v"}}], LAX_EMULATOR, id="a key that begins with goog"),
        pytest.param([{"attributes": {"": "v"}}], LAX_EMULATOR, id="an empty key"),
        pytest.param([{"data": b"x" * 10_000_001}], LAX_EMULATOR, id="10,000,001 bytes"),
    ],
)
def test_publish_refuses(bench, messages, lax):
    check(bench, lambda: bench.publish(*messages), lax=lax)


def test_publish_accepts_what_is_just_allowed(bench):
    bench.publish({"attributes": {f"{n:0>256}": "v" * 1024 for n in range(100)}})
    assert len(bench.pull(1)[0].message.attributes) == 100


@pytest.mark.parametrize("name", ["ab", "1abc", "googly", "a" * 256, "a b"], ids=lambda name: name[:10])
def test_names_are_3_to_255_characters_and_begin_with_a_letter(bench, name):
    check(bench, lambda: bench.create_topic(name), lax=REFUSED_BY_BOTH)
    check(bench, lambda: bench.create_subscription(name), lax=REFUSED_BY_BOTH)


def test_names_may_hold_these_characters(bench):
    for name in ("abc", "a" * 255, "A-_.~+%9"):
        assert bench.create_topic(name).endswith(name)


@pytest.mark.parametrize(
    ("settings", "lax"),
    [
        ({"ack_deadline_seconds": 9}, LAX_EMULATOR),
        ({"ack_deadline_seconds": 601}, REFUSED_BY_BOTH),
        ({"message_retention_duration": timedelta(minutes=9)}, REFUSED_BY_BOTH),
        ({"message_retention_duration": timedelta(days=32)}, REFUSED_BY_BOTH),
        ({"expiration_policy": {"ttl": timedelta(hours=23)}}, LAX_EMULATOR),
        ({"labels": {"Not Allowed": "X"}}, LAX_EMULATOR),
        ({"retry_policy": {"maximum_backoff": timedelta(seconds=601)}}, REFUSED_BY_BOTH),
        ({"retry_policy": BACKOFF_UPSIDE_DOWN}, REFUSED_BY_BOTH),
    ],
    ids=str,
)
def test_subscriptions_refuse(bench, settings, lax):
    check(bench, lambda: bench.create_subscription("special", **settings), lax=lax)


@pytest.mark.parametrize(("lease_s", "lax"), [(-1, REFUSED_BY_BOTH), (601, LAX_EMULATOR)])
def test_leases_are_0_to_600_s(bench, lease_s, lax):
    bench.publish(b"a")
    (item,) = bench.pull(1)
    check(bench, lambda: bench.lease(lease_s, item), lax=lax)


def test_one_ack_request_holds_2500_ids(bench):
    bench.publish(b"a")
    (item,) = bench.pull(1)
    bench.ack(*[item] * 2500)
    check(bench, lambda: bench.ack(*[item] * 2501), lax=LAX_EMULATOR)

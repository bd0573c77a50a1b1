"""The numbers of the real service, each from both sides."""

import pytest

from lowtide.local.errors import InvalidArgument, OutOfRange
from lowtide.local.pubsub import limits
from lowtide.local.pubsub.resources import Content, DeadLetterPolicy, RetryPolicy, SubscriptionConfig

DAY_S = 86_400.0


@pytest.mark.parametrize("name", ["abc", "a" * 255, "A-_.~+%9"])
def test_good_names_pass(name):
    limits.check_name(f"projects/p-1/topics/{name}", kind="topics")


@pytest.mark.parametrize("name", ["", "ab", "a" * 256, "1abc", "googly", "a/b", "a b", "añb"])
def test_bad_names_are_refused(name):
    with pytest.raises(InvalidArgument, match="Invalid"):
        limits.check_name(f"projects/p-1/topics/{name}", kind="topics")


def test_a_topic_is_not_a_subscription():
    with pytest.raises(InvalidArgument):
        limits.check_name("projects/p-1/topics/abc", kind="subscriptions")


@pytest.mark.parametrize(
    "content",
    [
        Content(b"x"),
        Content(b"", {"key": ""}),
        Content(b"x", {str(number): "" for number in range(100)}),
        Content(b"x", {"k" * 256: "v" * 1024}),
        Content(b"x", {"é" * 128: "é" * 512}),
        Content(b"x", {}, "k" * 1024),
    ],
    ids=["data", "attribute", "100 attributes", "long", "long in UTF-8", "ordering key"],
)
def test_contents_at_the_limit_pass(content):
    limits.check_contents([content])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (Content(b""), "empty"),
        (Content(b"", {}, "key"), "empty"),
        (Content(b"x", {str(number): "" for number in range(101)}), "101 attributes, at most 100"),
        (Content(b"x", {"k" * 257: ""}), "257 bytes, at most 256"),
        (Content(b"x", {"é" * 129: ""}), "258 bytes, at most 256"),
        (Content(b"x", {"key": "v" * 1025}), "1025 bytes, at most 1024"),
        (Content(b"x", {"key": "é" * 513}), "1026 bytes, at most 1024"),
        (Content(b"x", {"googkey": ""}), "goog"),
        (Content(b"x", {"": "v"}), "empty"),
        (Content(b"x", {}, "k" * 1025), "1025 bytes"),
    ],
)
def test_contents_beyond_the_limit_are_refused_with_both_numbers(content, complaint):
    with pytest.raises(InvalidArgument, match=complaint):
        limits.check_contents([Content(b"fine"), content])


def test_a_request_holds_one_to_a_thousand_messages():
    limits.check_contents([Content(b"x")] * 1000)
    for count in (0, 1001):
        with pytest.raises(InvalidArgument):
            limits.check_contents([Content(b"x")] * count)


def test_a_request_holds_ten_million_bytes():
    limits.check_request_bytes(10_000_000)
    with pytest.raises(InvalidArgument, match="10000001 of 10000000"):
        limits.check_request_bytes(10_000_001)


def test_an_ack_request_holds_one_to_2500_ids():
    limits.check_ack_ids(["id"] * 2500)
    for count in (0, 2501):
        with pytest.raises(InvalidArgument):
            limits.check_ack_ids(["id"] * count)


@pytest.mark.parametrize("lease_s", [0, 1, 600])
def test_good_extensions_pass(lease_s):
    limits.check_lease(lease_s)


@pytest.mark.parametrize("lease_s", [-1, 601])
def test_bad_extensions_are_refused(lease_s):
    with pytest.raises(InvalidArgument):
        limits.check_lease(lease_s)


def subscription(**config):
    return SubscriptionConfig(name="projects/p/subscriptions/abc", topic="projects/p/topics/abc", **config)


@pytest.mark.parametrize(
    "config",
    [
        {"ack_deadline_s": 10},
        {"ack_deadline_s": 600},
        {"retention_s": 600.0},
        {"retention_s": 31 * DAY_S},
        {"expires_after_s": None},
        {"expires_after_s": DAY_S},
        {"retry": RetryPolicy(minimum_backoff_s=0.0, maximum_backoff_s=0.0)},
        {"labels": {"team": "tide_1"}},
    ],
    ids=str,
)
def test_good_settings_pass(config):
    limits.check_subscription(subscription(**config))


@pytest.mark.parametrize(
    "config",
    [
        {"ack_deadline_s": 9},
        {"ack_deadline_s": 601},
        {"retention_s": 599.0},
        {"retention_s": 31 * DAY_S + 1},
        {"expires_after_s": DAY_S - 1},
        {"retry": RetryPolicy(minimum_backoff_s=20.0, maximum_backoff_s=10.0)},
        {"retry": RetryPolicy(maximum_backoff_s=601.0)},
        {"labels": {"Team": "x"}},
        {"labels": {"team": "X"}},
    ],
    ids=str,
)
def test_bad_settings_are_refused(config):
    with pytest.raises(InvalidArgument):
        limits.check_subscription(subscription(**config))


@pytest.mark.parametrize("attempts", [4, 101])
def test_delivery_attempts_out_of_bounds_have_a_code_of_their_own(attempts):
    policy = DeadLetterPolicy(topic="projects/p/topics/abc", max_delivery_attempts=attempts)
    with pytest.raises(OutOfRange):
        limits.check_subscription(subscription(dead_letter=policy))

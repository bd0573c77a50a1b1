"""The records of messages, also in a full Redis, of every Redis server of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from lowtide.bridge.held.records import END_ACKED_S, Claim, Record, Records
from lowtide.tasks.redis.keys import END_CLAIM_S, END_DONE_S, TRY_S, Keys
from tests.integration.bare_fleet import PREFIX, Server

KEYS = Keys(PREFIX)
MESSAGES = ["s:1", "s:2"]


@pytest.fixture
def redis(server: Server) -> Redis:
    server.redis.flushall()
    return server.redis


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, KEYS, bridge="b")


@contextmanager
def full(redis: Redis) -> Iterator[None]:
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            redis.set("any", "value")
        yield
    finally:
        redis.config_set("maxmemory", 0)


def recorded(records: Records, claim: Claim) -> bool:
    return records.look_up(MESSAGES) == [Record(claim=claim, tries=0)] * len(MESSAGES)


def test_while_redis_is_full_messages_can_be_claimed_and_claims_renewed(redis: Redis, records: Records) -> None:
    with full(redis):
        assert records.claim(MESSAGES) == [Claim.OURS, Claim.OURS]
        redis.expire(KEYS.end(MESSAGES[0]), 1)
        assert records.claim(MESSAGES) == [Claim.OURS, Claim.OURS]

    assert recorded(records, Claim.OURS)
    assert END_CLAIM_S - 5 < redis.ttl(KEYS.end(MESSAGES[0])) <= END_CLAIM_S


def test_while_redis_is_full_the_claim_of_another_bridge_is_respected(redis: Redis, records: Records) -> None:
    Records(redis, KEYS, bridge="another").claim(MESSAGES[:1])
    with full(redis):
        assert records.claim(MESSAGES) == [Claim.ANOTHERS, Claim.OURS]


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "claim lapsed"])
def test_while_redis_is_full_what_was_published_can_be_marked_done(
    redis: Redis, records: Records, claimed: bool
) -> None:
    if claimed:
        records.claim(MESSAGES)
    with full(redis):
        records.done(MESSAGES)

    assert recorded(records, Claim.DONE)
    assert redis.ttl(KEYS.end(MESSAGES[0])) > END_DONE_S - 5


def test_while_redis_is_full_what_is_acknowledged_can_be_let_expire(redis: Redis, records: Records) -> None:
    records.done(MESSAGES)
    with full(redis):
        records.acknowledged(MESSAGES)

    assert recorded(records, Claim.DONE)
    assert 0 < redis.ttl(KEYS.end(MESSAGES[0])) <= END_ACKED_S


def test_an_attempt_that_is_counted_again_for_want_of_an_answer_counts_once(redis: Redis, records: Records) -> None:
    assert records.count_tries(MESSAGES, before=[0, 2]) == [1, 3]
    assert records.count_tries(MESSAGES, before=[0, 2]) == [1, 3]

    assert [record.tries for record in records.look_up(MESSAGES)] == [1, 3]
    assert TRY_S - 5 < redis.ttl(KEYS.tries(MESSAGES[0])) <= TRY_S


def test_attempts_elsewhere_count_and_an_emptied_redis_does_not_start_over_what_is_known(
    redis: Redis, records: Records
) -> None:
    records.count_tries(MESSAGES, before=[2, 0])
    assert records.count_tries(MESSAGES, before=[0, 0]) == [3, 1]

    redis.flushall()
    assert records.count_tries(MESSAGES, before=[2, 1]) == [3, 2]

import math

import pytest

from lowtide.bridge.credit import (
    PULL_MAX,
    PULL_WORTH,
    PULLS_MAX,
    Fleet,
    Share,
    content_room_bytes,
    credit_chunks,
    credit_messages,
    share,
)


@pytest.mark.parametrize(
    ("workers", "bridges", "waiting", "held", "chunks"),
    [
        (1, 1, 0, 0, 2),
        (1, 1, 1, 5, 1),
        (1, 1, 2, 0, 0),
        (1, 1, 9, 0, 0),
        (10, 1, 4, 0, 16),
        (10, 4, 4, 0, 4),
        (1, 4, 0, 0, 0.5),
        (3, 0, 0, 0, 6),
    ],
)
def test_credit_is_two_chunks_per_worker_less_what_waits_shared_among_bridges(
    workers: int, bridges: int, waiting: int, held: int, chunks: float
) -> None:
    assert credit_chunks(Fleet(workers=workers, bridges=bridges, waiting=waiting), held=held) == chunks


@pytest.mark.parametrize(("waiting", "held", "chunks"), [(0, 0, 1), (1, 1, 0), (1, 0, 0), (0, 1, 0), (3, 3, 0)])
def test_without_workers_one_chunk_tells_that_there_is_work(waiting: int, held: int, chunks: float) -> None:
    assert credit_chunks(Fleet(workers=0, bridges=1, waiting=waiting), held=held) == chunks


@pytest.mark.parametrize(
    ("chunks", "chunk_requests", "message_bytes", "free_bytes", "messages"),
    [
        (2, 25, 1000, 1e9, 50),
        (0.5, 25, 1000, 1e9, 12),
        (0.01, 25, 1000, 1e9, 1),
        (0, 25, 1000, 1e9, 0),
        (2, 256, 5e6, 20e6, 4),
        (2, 256, 5e6, 1e6, 1),
        (2, 256, 5e6, 0, 0),
        (2, 256, 5e6, -1, 0),
        (100, 256, 0, 1e9, PULLS_MAX * PULL_MAX),
    ],
)
def test_credit_in_messages_is_bounded_by_work_and_bytes(
    chunks: float, chunk_requests: float, message_bytes: float, free_bytes: float, messages: int
) -> None:
    asked = credit_messages(chunks, chunk_requests=chunk_requests, message_bytes=message_bytes, free_bytes=free_bytes)
    assert asked == messages


@pytest.mark.parametrize(
    ("room", "flows", "messages", "pulls", "each"),
    [
        (1, True, 1, 1, 1),
        (2 * PULL_WORTH - 1, True, 2 * PULL_WORTH - 1, 1, 2 * PULL_WORTH - 1),
        (2 * PULL_WORTH + 1, True, 2 * PULL_WORTH + 1, 2, PULL_WORTH + 1),
        (2 * PULL_WORTH, False, 2 * PULL_WORTH, 1, 2 * PULL_WORTH),
        (PULLS_MAX * PULL_MAX, True, PULLS_MAX * PULL_MAX, PULLS_MAX, PULL_MAX),
        (PULLS_MAX * PULL_MAX, False, PULLS_MAX * PULL_MAX, 1, PULL_MAX),
    ],
)
def test_large_credit_is_asked_for_in_several_pulls_once_messages_flow(
    room: int, flows: bool, messages: int, pulls: int, each: int
) -> None:
    found = share(room, flows=flows, alone=True)
    assert (found, found.each) == (Share(messages=messages, pulls=pulls), each)


@pytest.mark.parametrize(
    ("room", "flows", "messages"), [(1, False, 1), (1000, False, 1), (1, True, 1), (2, True, 1), (1000, True, 500)]
)
def test_a_subscription_beside_others_leaves_them_half(room: int, flows: bool, messages: int) -> None:
    assert share(room, flows=flows, alone=False).messages == messages


@pytest.mark.parametrize(
    ("redis_max_bytes", "bridges", "outstanding_bytes", "room_bytes"),
    [(0, 3, 10**12, math.inf), (1000, 1, 0, 500), (1000, 2, 100, 150), (1000, 2, 260, -10), (1000, 0, 0, 500)],
)
def test_bridges_share_a_part_of_redis_among_their_content(
    redis_max_bytes: int, bridges: int, outstanding_bytes: int, room_bytes: float
) -> None:
    fleet = Fleet(workers=1, bridges=bridges, waiting=0, redis_max_bytes=redis_max_bytes)

    assert content_room_bytes(fleet, outstanding_bytes=outstanding_bytes) == room_bytes


@pytest.mark.parametrize(("others_bytes", "room_bytes"), [(0, 150), (250, 150), (260, 140), (500, -100)])
def test_content_of_others_leaves_less_than_a_share_when_they_have_more_than_theirs(
    others_bytes: int, room_bytes: float
) -> None:
    fleet = Fleet(workers=1, bridges=2, waiting=0, redis_max_bytes=1000, others_bytes=others_bytes)

    assert content_room_bytes(fleet, outstanding_bytes=100) == room_bytes

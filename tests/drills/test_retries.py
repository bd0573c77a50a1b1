from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.cloud_storage import Unavailable
from tests.drills.load import Copy, Sent
from tests.drills.storage import AFTER_S, TroubledStorage
from tests.drills.verdict import verdict_of


def test_what_is_in_storage_can_be_had_only_a_while_after_it_was_first_asked_for() -> None:
    now_s = 100.0
    storage = TroubledStorage(lambda: now_s)
    for _ in range(3):
        with pytest.raises(Unavailable):
            storage.read("soon/7")
    now_s += AFTER_S["soon"]
    assert storage.read("soon/7") == b"7"
    with pytest.raises(Unavailable):
        storage.read("soon/8")
    assert storage.read("there/9") == b"9"
    assert storage.read("other/7") is None


def test_a_verdict_counts_the_requests_that_ended_at_a_further_try(tmp_path: Path) -> None:
    tries = {1: (1,), 2: (2,), 3: (3, 3), 4: ()}

    verdict = verdict_of(
        {number: Sent(number=number, deed="soon", sent_s=0.0, confirmed=Future()) for number in tries},
        {number: [a_copy(number, attempts) for attempts in each] for number, each in tries.items()},
        expected={},
        flow_s=[],
        last_s=0.0,
        runs=tmp_path,
        exits=[],
    )

    assert (verdict.requests, verdict.retried, verdict.lost) == (4, 2, 1)


def a_copy(number: int, attempts: int) -> Copy:
    return Copy(
        request=number, message_id=f"m{number}", ending="ok", attempts=attempts, right=True, came_s=1.0, published=1.0
    )

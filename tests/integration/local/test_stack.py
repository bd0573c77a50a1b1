from pathlib import Path

import pytest

from lowtide.config import load_settings
from lowtide.local.process import free_port
from lowtide.local.stack import Stack, StackFailed
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live


def test_a_redis_that_is_named_and_away_ends_the_start_at_once(tmp_path: Path) -> None:
    settings = load_settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")

    with pytest.raises(
        StackFailed, match=r"Redis at LOWTIDE_REDIS_URL can't be used: not reachable: nothing listens there"
    ) as failed:
        Stack(settings, folder=tmp_path).start()
    assert "unset LOWTIDE_REDIS_URL" in str(failed.value), "a terminal may still have what an earlier system printed"


def test_a_pubsub_that_is_named_and_away_ends_the_start_at_once(tmp_path: Path, redis_url: str) -> None:
    host = f"127.0.0.1:{free_port()}"

    with pytest.raises(
        StackFailed, match=f"Pub/Sub does not answer at {host}: .*refused; .* unset PUBSUB_EMULATOR_HOST"
    ):
        Stack(load_settings(redis_url=redis_url), folder=tmp_path, pubsub_host=host).start()


def test_a_fleet_that_is_not_ready_in_time_shows_the_ends_of_its_logs(tmp_path: Path) -> None:
    stack = Stack(load_settings(), folder=tmp_path)
    with stack:
        (tmp_path / "worker-0.log").write_text("downloading\n")
        with pytest.raises(StackFailed) as failed:
            stack.wait_ready(0.0)

    assert f"the end of {tmp_path}/worker-0.log:\ndownloading" in str(failed.value)


def test_without_a_subscription_there_is_no_bridge_to_wait_for(tmp_path: Path) -> None:
    with Stack(load_settings(subscription=()), folder=tmp_path, workers=0) as stack:
        stack.wait_ready(60)

        assert not live(connect(stack.settings), Keys.of(stack.settings), "bridge")
    assert not (tmp_path / "bridge.log").exists()

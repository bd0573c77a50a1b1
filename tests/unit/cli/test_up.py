from pathlib import Path

from lowtide.cli.up import welcome
from lowtide.config import load_settings
from lowtide.local.stack import Stack


def test_the_welcome_shows_how_to_join_but_no_password(tmp_path: Path) -> None:
    secured = load_settings(redis_url="rediss://fleet:hunter2@localhost:6380/0", prefix="up:")
    said = welcome(Stack(secured, folder=tmp_path), flower=False)

    assert "rediss://fleet:…@localhost:6380/0" in said
    assert "with LOWTIDE_REDIS_URL set as in this one" in said
    assert "export LOWTIDE_PREFIX=up: LOWTIDE_PROJECT=lowtide-local" in said
    assert "hunter2" not in said


def test_the_welcome_of_a_redis_of_its_own_can_be_pasted_whole(tmp_path: Path) -> None:
    said = welcome(Stack(load_settings(), folder=tmp_path), flower=False)

    assert "export LOWTIDE_REDIS_URL=redis://127.0.0.1:" in said

from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from lowtide.cli import classify
from lowtide.config import SettingsError
from lowtide.local.stack import Stack


def test_a_wrong_parameter_is_told_of_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "Stack", None)
    (tmp_path / "1.png").touch()
    arguments = [str(tmp_path), "--model=digits", "--param=top_k", f"--output={tmp_path}/r.jsonl"]
    run = CliRunner().invoke(classify.command, arguments)

    assert run.exit_code == 2
    assert "--param top_k: expected NAME=VALUE" in run.output
    assert not (tmp_path / "r.jsonl").exists()


def test_a_fleet_without_a_subscription_can_not_be_classified_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "Stack", None)
    monkeypatch.setenv("LOWTIDE_SUBSCRIPTION", "")
    (tmp_path / "1.png").touch()
    run = CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", f"--output={tmp_path}/r.jsonl"])

    assert isinstance(run.exception, SettingsError)
    assert not (tmp_path / "r.jsonl").exists()


def test_an_output_is_gone_on_with_or_begun_anew(tmp_path: Path) -> None:
    run = CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", "--resume", "--overwrite"])

    assert run.exit_code == 2
    assert "choose one" in run.output


def test_retry_without_resume_is_told_of_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    run = CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", "--retry=no_answer"])

    assert run.exit_code == 2
    assert "--retry chooses what --resume runs again" in run.output


@pytest.mark.parametrize("option", ["--weights=random", "--workers=2"])
def test_what_a_fleet_that_is_there_would_not_heed_is_told_of_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("LOWTIDE_PROJECT", "my-project")
    (tmp_path / "1.png").touch()
    run = CliRunner().invoke(
        classify.command, [str(tmp_path), "--model=digits", option, f"--output={tmp_path}/r.jsonl"]
    )

    assert run.exit_code == 2
    assert option.partition("=")[0] in run.output
    assert not (tmp_path / "r.jsonl").exists()


def test_a_system_of_its_own_shares_nothing_with_a_fleet_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Stack] = []

    class NotStarted(Stack):
        def __enter__(self) -> NoReturn:
            made.append(self)
            raise SettingsError("seen")

    monkeypatch.setattr(classify, "Stack", NotStarted)
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://10.0.0.5:6379/0")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "10.0.0.6:8085")
    (tmp_path / "1.png").touch()
    CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", f"--output={tmp_path}/r.jsonl"])

    assert made[0].settings.redis_url.startswith("redis://127.0.0.1:")
    assert made[0].pubsub_host.startswith("127.0.0.1:")

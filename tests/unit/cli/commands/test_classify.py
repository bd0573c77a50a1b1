import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn
from unittest.mock import Mock

import click
import pytest
from click.testing import CliRunner

from lowtide.cli import STOPPED
from lowtide.cli.commands import classify
from lowtide.cli.report.page import NoPlaceForReport
from lowtide.config import SettingsError
from lowtide.local.stack import Stack, StackFailed
from lowtide.workers.models.names import check_case

DIGIT = Path(__file__).parents[4] / "examples" / "digits" / "images" / "0001.png"


def test_a_wrong_parameter_is_told_of_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    arguments = [str(tmp_path), "--model=digits", "--param=top_k", f"--output={tmp_path}/r.jsonl"]
    run = CliRunner().invoke(classify.command, arguments)

    assert run.exit_code == 2
    assert "--param top_k: expected NAME=VALUE" in run.output
    assert not (tmp_path / "r.jsonl").exists()


def test_a_fleet_without_a_subscription_can_not_be_classified_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_SUBSCRIPTION", "")
    (tmp_path / "1.png").touch()
    run = CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", f"--output={tmp_path}/r.jsonl"])

    assert isinstance(run.exception, SettingsError)
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("Digits", "digits"),
        ("DIGITS", "digits"),
        ("Cats", "cats"),
        ("Mobilenet_V2", None),
        ("resnet18", None),
        ("ResNet18", None),
    ],
)
def test_a_name_that_only_capitals_tell_from_a_known_one_is_refused(model: str, meant: str | None) -> None:
    own = f"Your own: {model}=package.module:Class"
    told = f"LOWTIDE_MODELS: there is no model {model}; did you mean {meant}? {own}"
    with pytest.raises(SettingsError, match=re.escape(told)) if meant else nullcontext():
        check_case(model, served=("digits", "cats", "ResNet18"))


def test_such_a_name_is_told_of_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_MODELS", "digits,cats=own:Cats")
    monkeypatch.delenv("LOWTIDE_PROJECT", raising=False)
    (tmp_path / "1.png").touch()
    run = CliRunner().invoke(classify.command, [str(tmp_path), "--model=Cats", f"--output={tmp_path}/r.jsonl"])

    assert "did you mean cats?" in str(run.exception)
    assert not (tmp_path / "r.jsonl").exists()


def test_names_are_compared_without_torch() -> None:
    code = "import sys, lowtide.cli.commands.classify, lowtide.workers.models.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_output_is_gone_on_with_or_begun_anew(tmp_path: Path) -> None:
    run = CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", "--resume", "--overwrite"])

    assert run.exit_code == 2
    assert "choose one" in run.output


@pytest.mark.parametrize("name", ["r.jsonl", "./r.jsonl"])
def test_a_report_is_another_file_than_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.png").touch()
    run = CliRunner().invoke(classify.command, ["1.png", "--model=digits", "--output=r.jsonl", f"--report={name}"])

    assert run.exit_code == 2
    assert "--report and --output name the same file" in run.output
    assert not (tmp_path / "r.jsonl").exists()


def test_somebody_s_page_is_told_of_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index.html").write_text("<h1>My page</h1>")
    run = CliRunner().invoke(classify.command, ["index.html", "--model=digits", "--report=index.html"])

    assert isinstance(run.exception, NoPlaceForReport)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_report_is_a_file(tmp_path: Path) -> None:
    run = CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", "--report=-"])

    assert run.exit_code == 2
    assert "name one, such as report.html" in run.output


def test_ctrl_c_while_the_report_is_made_leaves_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGIT, "1.png")
    (tmp_path / "results.jsonl").write_text(json.dumps({"request_id": "1.png", "status": "ok"}) + "\n")
    monkeypatch.setattr("lowtide.cli.report.report.thumbnails", Mock(side_effect=KeyboardInterrupt))
    run = CliRunner().invoke(classify.command, ["1.png", "--model=digits", "--resume", "--report=report.html"])

    assert run.exit_code == STOPPED
    assert "--resume goes on" in run.output
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == []


def test_ctrl_c_says_that_it_was_heard_before_all_has_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGIT, "1.png")
    monkeypatch.setattr(Stack, "start", lambda self: None)
    monkeypatch.setattr(Stack, "wait_ready", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(Stack, "stop", lambda self: click.echo("All has stopped", err=True))
    run = CliRunner().invoke(classify.command, ["1.png", "--model=digits"])

    assert run.exit_code == STOPPED
    assert run.output.index("Stopping") < run.output.index("All has stopped") < run.output.index("Stopped: 0 of 1")


def test_a_report_of_what_was_there_already_needs_no_system_and_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGIT, "photos.png")
    row = {"request_id": "photos.png", "model": "digits", "status": "ok", "outputs": [{"label": "3", "score": 0.98}]}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    for _ in range(2):  # now there is a report, too
        run = CliRunner().invoke(classify.command, [".", "--model=digits", "--resume", "--report=report.html"])

        assert run.exit_code == 0, run.output
        assert "0 results, 0 failed, 1 were there already" in run.output
        assert "Starting" not in run.output
        assert "0.0" not in run.output
    page = (tmp_path / "report.html").read_text()
    assert "0.980" in page
    assert page.count("data:image/webp") == 1


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

    def start(stack: Stack) -> NoReturn:
        made.append(stack)
        raise StackFailed("seen")

    monkeypatch.setattr(Stack, "start", start)
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://10.0.0.5:6379/0")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "10.0.0.6:8085")
    (tmp_path / "1.png").touch()
    CliRunner().invoke(classify.command, [str(tmp_path), "--model=digits", f"--output={tmp_path}/r.jsonl"])

    assert made[0].settings.redis_url.startswith("redis://127.0.0.1:")
    assert made[0].pubsub_host.startswith("127.0.0.1:")

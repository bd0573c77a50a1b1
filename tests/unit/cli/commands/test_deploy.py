import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lowtide.cli.main import main
from lowtide.config import Settings

FILE = "lowtide.auto.tfvars.json"


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LOWTIDE_{name.upper()}", raising=False)
    monkeypatch.setenv("LOWTIDE_PROJECT", "my-project")


def test_the_variables_are_written_where_terraform_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy" / "terraform").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["deploy", "vars"])

    assert (done.exit_code, done.stdout) == (0, "")
    assert f"deploy/terraform/{FILE}: fleet default of my-project, 0 to 10 workers\n" in done.stderr
    assert "Note: LOWTIDE_GS_BUCKETS" in done.stderr
    assert json.loads((tmp_path / "deploy" / "terraform" / FILE).read_text())["project"] == "my-project"


def test_what_another_shell_had_set_is_told_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = ["deploy", "vars", "--output", str(tmp_path / FILE)]
    monkeypatch.setenv("LOWTIDE_FLEET_MAX", "2")
    monkeypatch.setenv("LOWTIDE_BATCH_MAX_REQUESTS", "8")
    assert " was " not in CliRunner().invoke(main, call).stderr

    monkeypatch.delenv("LOWTIDE_FLEET_MAX")
    monkeypatch.setenv("LOWTIDE_BATCH_MAX_REQUESTS", "4")
    said = CliRunner().invoke(main, call).stderr
    assert "Note: LOWTIDE_FLEET_MAX was 2, and is its default now\n" in said
    assert "Note: LOWTIDE_BATCH_MAX_REQUESTS was 8, and is 4 now\n" in said
    assert said.count(" was ") == 2


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[]", b'{"settings": 1}'])
def test_a_file_that_is_not_ours_is_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    done = CliRunner().invoke(main, ["deploy", "vars", "--output", str(tmp_path / FILE)])

    assert done.exit_code == 0, done.stderr
    assert json.loads((tmp_path / FILE).read_text())["project"] == "my-project"


def test_printed_they_are_json_alone() -> None:
    done = CliRunner().invoke(main, ["deploy", "vars", "--output", "-"])

    assert json.loads(done.stdout)["policy"]["max_replicas"] == 10


def test_outside_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["deploy", "vars"])

    assert done.exit_code == 2
    assert "no such folder; run it in a checkout, or name a file" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOWTIDE_PROJECT", "", "LOWTIDE_PROJECT is not set"),
        ("LOWTIDE_FLEET_MAX", "many", "LOWTIDE_FLEET_MAX"),
        ("LOWTIDE_FLEET_STABILIZATION_S", "7200", "LOWTIDE_FLEET_STABILIZATION_S"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, ["deploy", "vars", "--output", str(tmp_path / FILE)])

    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert not (tmp_path / FILE).exists()

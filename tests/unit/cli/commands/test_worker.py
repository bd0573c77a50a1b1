from pathlib import Path

import pytest
from click.testing import CliRunner

from lowtide.cli.main import main
from lowtide.config import Settings


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LOWTIDE_{name.upper()}", raising=False)
    monkeypatch.setenv("LOWTIDE_MODELS", "digits")
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://127.0.0.1:1/0")  # where nobody listens


def test_models_are_loaded_without_a_fleet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        result = CliRunner().invoke(main, ["worker", "--load-only"])

    assert result.exit_code == 0, result.output
    assert [record.args[0] for record in caplog.records if "is there" in record.msg] == ["digits"]


def test_weights_that_are_not_there_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_WEIGHTS", f"digits=file://{tmp_path}/none.pt")
    result = CliRunner().invoke(main, ["worker", "--load-only"])

    assert result.exit_code == 1
    assert f"there is no file {tmp_path}/none.pt" in result.output

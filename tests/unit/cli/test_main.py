import pytest
from click.testing import CliRunner

from lowtide.cli import main
from lowtide.tasks.errors import LowtideError


def test_an_error_of_ours_is_a_sentence_without_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise LowtideError("weights https://h/w.pt?sig=hunter2 can't be read")

    monkeypatch.setattr("lowtide.cli.publish.load_settings", fail)
    run = CliRunner().invoke(main, ["publish", "a.png"])

    assert (run.exit_code, run.output) == (1, "Error: weights https://h/w.pt?… can't be read\n")

"""What `lowtide doctor` says of models. No Redis, no download."""

import sys
from pathlib import Path

import pytest

from lowtide.cli.checks.checks import models
from lowtide.cli.checks.findings import Verdict
from lowtide.config import Settings

OWN = """
import torch
from lowtide.workers.model import Model

class Pair(Model):
    def load(self, device):
        self.version = "1"

    def decode(self, content, params):
        return torch.zeros(3)

    def predict(self, batch):
        return batch, batch.sum()

    def encode(self, output, params):
        return []

    def example(self):
        return torch.zeros(3)
"""


def findings(entry, **settings):
    return [finding for finding in models(Settings(models=(entry,), **settings)) if finding.what == "Models"]


def test_a_model_whose_example_shows_wrong_outputs_is_named_with_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_pair.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (finding,) = findings("pair=own_pair:Pair")
    assert finding.verdict is Verdict.FAILED
    assert finding.message.startswith("model pair: predict gave a tuple of 2: (1, 3), () for 1 item: ")
    assert "docs/models.md" in finding.remedy


def test_a_model_that_is_well_is_named_with_its_version() -> None:
    (finding,) = findings("digits")
    assert (finding.verdict, finding.message.partition(", ")[0]) == (Verdict.OK, "digits")


def test_weights_that_do_not_load_are_a_setting_to_correct(tmp_path: Path) -> None:
    uri = (tmp_path / "absent.pth").as_uri()
    (finding,) = findings("digits", weights={"digits": uri})
    assert (finding.verdict, finding.remedy) == (Verdict.FAILED, "correct LOWTIDE_WEIGHTS for digits")
    assert "there is no file" in finding.message

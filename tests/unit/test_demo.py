import runpy
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "digits" / "demo.py"


def test_the_demo_sends_nothing_to_a_fleet_that_the_terminal_still_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(subprocess, "run", lambda *_, **how: asked.append(how) or SimpleNamespace(returncode=1))
    monkeypatch.setenv("LOWTIDE_PROJECT", "my-project")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:8085")

    assert runpy.run_path(str(DEMO))["main"]() == 1
    assert "PATH" in asked[0]["env"]
    assert not [name for name in asked[0]["env"] if name.startswith(("LOWTIDE_", "PUBSUB_"))]

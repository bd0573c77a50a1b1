"""What `make` says of a machine on which nothing can be installed."""

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "requirements" / "machine.py"


@pytest.fixture(scope="module")
def machine() -> Any:
    return SimpleNamespace(**runpy.run_path(str(FILE)))


@pytest.fixture(scope="module")
def fine(machine: Any) -> Any:
    return machine.Machine(
        system="Linux", architecture="x86_64", python=(3, 13), glibc=(2, 36), has_venv=True, free_gb=20.0
    )


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"architecture": "aarch64"},
        {"python": (3, 11), "glibc": (2, 28)},
        {"python": (3, 14), "glibc": (2, 39)},
    ],
)
def test_a_machine_that_will_do_is_not_complained_of(machine: Any, fine: Any, kind: dict[str, Any]) -> None:
    assert machine.trouble(fine._replace(**kind)) == ""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"system": "Darwin"}, "Lowtide runs on Linux, and this is Darwin"),
        ({"architecture": "riscv64"}, "there are wheels for x86_64 and aarch64, and this machine is riscv64"),
        ({"python": (3, 9)}, "needs Python 3.11 to 3.14, and this is 3.9: name another, such as make demo PYTHON="),
        ({"python": (3, 15)}, "and this is 3.15"),
        ({"glibc": (0, 0)}, "need glibc"),
        ({"python": (3, 14)}, "glibc 2.39 (Debian 13, Ubuntu 24.04), and this is 2.36"),
        ({"has_venv": False}, "apt install python3.13-venv"),
        ({"free_gb": 3.21}, "takes 8 GB of disk, and 3.2 are free here"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(machine: Any, fine: Any, kind: dict[str, Any], said: str) -> None:
    assert said in machine.trouble(fine._replace(**kind))


def test_this_machine_will_do() -> None:
    run = subprocess.run([sys.executable, FILE], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")


def test_the_versions_are_those_that_the_package_says(machine: Any) -> None:
    project = (ROOT / "pyproject.toml").read_text()

    assert 'requires-python = ">={}.{}"'.format(*machine.OLDEST) in project
    assert '"Programming Language :: Python :: {}.{}"'.format(*machine.NEWEST) in project
    assert project.count('"Programming Language :: Python :: 3.') == machine.NEWEST[1] - machine.OLDEST[1] + 1


def test_nothing_is_downloaded_before_it_was_asked(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\necho "$1" >> calls\necho "Error: old" >&2\nexit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = ["make", "demo", f"PYTHON={old}", "UV=.uv/bin/uv"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 2
    assert run.stderr.startswith("Error: old\n")
    assert (tmp_path / "calls").read_text() == "requirements/machine.py\n"

"""terraform, in the root that deploy/terraform is."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lowtide.cli.deploy.errors import TerraformFailed, TerraformMissing
from lowtide.cli.deploy.variables import FILE

ROOT = Path("deploy/terraform")
"""In a checkout."""
PLAN = "lowtide.tfplan"
STANDARD_ERROR = 2
ERROR = "Error: "
QUOTING = re.compile(r"│\s+(on .+ line \d+|\d+: |├─|│)")
"""Begins a line beside an error that is not its words."""
CHOICES = ("*.tfvars", "*.tfvars.json")
"""Files in which variables are chosen."""
COPY = "copy terraform.tfvars.example, and edit it"


class Terraform:
    """terraform in `root`. Raises TerraformMissing."""

    def __init__(self, root: Path = ROOT) -> None:
        program = shutil.which("terraform")
        if program is None:
            raise TerraformMissing(
                "terraform is not on the PATH",
                "install it, version 1.9 or later: https://developer.hashicorp.com/terraform/install",
            )
        self._root = root
        self._command = [program, f"-chdir={root}"]
        # Else what it says ends with hints to commands that are not ours.
        self._environment = {**os.environ, "TF_IN_AUTOMATION": "1"}

    def plan(self) -> None:
        """Write the file `PLAN`. What terraform says goes to standard error at once. Raises TerraformFailed."""
        done = subprocess.run(
            [*self._command, "plan", "-input=false", f"-out={PLAN}"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=STANDARD_ERROR,
            check=False,
        )
        if done.returncode:
            raise TerraformFailed("terraform plan has failed", f"what it says stands above. {self._advice()}".rstrip())

    def show_plan(self) -> dict[str, Any]:
        """The file `PLAN`, as `terraform show -json` writes it. Raises TerraformFailed."""
        shown: dict[str, Any] = json.loads(self._read(["show", "-json", PLAN]))
        return shown

    def _read(self, words: Sequence[str]) -> str:
        done = subprocess.run(
            [*self._command, *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TerraformFailed(_errors(done.stdout + done.stderr), self._advice() or "correct it, and try again")
        return done.stdout

    def _advice(self) -> str:
        """What whoever is here for the first time has not done yet."""
        advice = []
        if not (self._root / os.environ.get("TF_DATA_DIR", ".terraform")).exists():
            advice.append(f"If it was never run here, begin with: terraform -chdir={self._root} init.")
        if not any(file.name != FILE for pattern in CHOICES for file in self._root.glob(pattern)):
            advice.append(f"Where and on what it runs is chosen in {self._root}/terraform.tfvars: {COPY}.")
        return " ".join(advice)


def _errors(said: str) -> str:
    """On one line, without frames, what was said before them, and the lines of code that are quoted."""
    lines = [line.lstrip("│╷╵ ") for line in click.unstyle(said).splitlines() if not QUOTING.match(line)]
    words = " ".join(lines)
    return " ".join(words.partition(ERROR)[2].split()) or "it failed without a word"

"""terraform, in the root that deploy/terraform is."""

import base64
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
UNKNOWN = "(known after apply)"
"""What `terraform console` prints of a variable that nobody has set."""
UNSET = object()
"""In the place of its value."""


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

    def value_of(self, expression: str) -> Any:
        """The value of an expression; `UNSET` if it depends on a variable that has none.

        Looks neither at Google nor at what was applied. Raises TerraformFailed, also when a variable is refused.
        """
        # As base64: what the console prints is quoted for people.
        *_, printed = self._read(["console"], asked=f"base64encode(jsonencode({expression}))\n").splitlines()
        if printed == UNKNOWN:
            return UNSET
        return json.loads(base64.b64decode(printed.strip('"')))

    def made(self) -> frozenset[str]:
        """Addresses of what it has made and still keeps."""
        try:
            return frozenset(self._read(["state", "list"]).splitlines())
        except TerraformFailed:  # before the first apply there is no state, which it takes for an error
            return frozenset()

    def _read(self, words: Sequence[str], *, asked: str = "") -> str:
        done = subprocess.run(
            [*self._command, *words], env=self._environment, input=asked, capture_output=True, text=True, check=False
        )
        # The console's exit code is 0 also when variables are refused.
        if done.returncode or ERROR in done.stderr:
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
    words = " ".join(f"{line}:" if line.startswith(ERROR) else line for line in lines)
    return " ".join(words.partition(ERROR)[2].split()).rstrip(".") or "it failed without a word"

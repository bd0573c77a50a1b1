"""terraform, on a copy of deploy/ and with the stand-in for its provider."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowtide.cli.deploy.variables import FILE, variables_of
from lowtide.config import Settings, load_settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PLACE = {
    "region": "us-central1",
    "zone": "us-central1-b",
    "image_repository": "us-central1-docker.pkg.dev/my-project/lowtide",
    "image_tag": "0.1.0",
    "worker_machine_type": "n2-standard-4",
}
"""What a person writes into terraform.tfvars: a fleet on CPUs."""
OPTIONS: Mapping[str, Any] = {
    "uploads": {"pictures": "lowtide-requests"},
    "bigquery": {"topic": "lowtide-results", "dataset": "lowtide"},
    "budget": {"billing_account": "012345-6789AB-CDEF01", "units": 100},
}
"""What a person may leave out. The bucket is one of LOWTIDE_GS_BUCKETS."""
LEFT_BEHIND = (".terraform*", "*.tfvars", "*.tfvars.json", "*.tfstate*", "*.tfplan")
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One resource as a plan would make or change it. `actions`: create, update, delete, no-op."""

    address: str
    type: str
    name: str
    actions: tuple[str, ...]
    after: dict[str, Any]
    known_later: dict[str, Any]


class Plan:
    """`terraform show -json` of a plan."""

    def __init__(self, shown: Mapping[str, Any]) -> None:
        self.resources = [
            Planned(
                address=change["address"],
                type=change["type"],
                name=change["name"],
                actions=tuple(change["change"]["actions"]),
                after=change["change"]["after"] or {},
                known_later=change["change"]["after_unknown"] or {},
            )
            for change in shown.get("resource_changes", [])
        ]
        self.configuration: dict[str, Any] = shown["configuration"]
        planned = shown["planned_values"].get("outputs", {})
        self.outputs: dict[str, Any] = {name: output.get("value") for name, output in planned.items()}

    def of_type(self, kind: str) -> list[Planned]:
        return [resource for resource in self.resources if resource.type == kind]

    def only(self, kind: str) -> dict[str, Any]:
        """What the one resource of a type will be."""
        [resource] = self.of_type(kind)
        return resource.after

    @property
    def lost(self) -> list[Planned]:
        """What it would delete, also to make it anew."""
        return [resource for resource in self.resources if "delete" in resource.actions]


@dataclass(frozen=True, slots=True)
class Failed:
    """terraform's exit code was not 0. `said`: the errors."""

    said: str


class Terraform:
    """`folder` becomes a copy of deploy/; its root has the variables that `settings` and `place` make."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        shutil.copytree(DEPLOY, folder, ignore=_of_a_person)
        self.root = folder / "terraform"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        self._environment = {**inherited, **environment, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
        self.given(settings=load_settings(project="my-project"))
        self.run("init", "-backend=false")

    def given(self, *, settings: Settings | None = None, **place: Any) -> None:
        """Write the variables: of the settings, if any, as `lowtide deploy vars` does."""
        if settings is not None:
            (self.root / FILE).write_text(json.dumps(variables_of(settings).values))
        (self.root / "terraform.tfvars.json").write_text(json.dumps({**PLACE, **place}))

    def run(self, command: str, *options: str) -> str | Failed:
        """What it prints; of what has failed, the errors."""
        done = subprocess.run(
            ["terraform", *command.split(), *options],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
        return said if done.returncode == 0 else Failed(_errors(said))

    def plan(self, *options: str) -> Plan | Failed:
        said = self.run("plan", "-input=false", "-lock=false", "-out=plan.bin", *options)
        return said if isinstance(said, Failed) else Plan(json.loads(self._shown()))

    def planned(self, *options: str) -> Plan:
        """A plan that must succeed."""
        plan = self.plan(*options)
        assert isinstance(plan, Plan), plan
        return plan

    def _shown(self) -> str:
        shown = self.run("show", "-json", "plan.bin")
        assert isinstance(shown, str), shown
        return shown


def _of_a_person(folder: str, names: list[str]) -> set[str]:
    """What terraform and people leave in the checkout's own root."""
    if Path(folder) != DEPLOY / "terraform":
        return set()
    return {name for pattern in LEFT_BEHIND for name in fnmatch.filter(names, pattern)}


def _errors(said: str) -> str:
    """On one line, without the frames around errors and what was said before them."""
    words = " ".join(line.lstrip("│╷╵ ") for line in said.splitlines())
    return " ".join(words[max(0, words.find("Error: ")) :].split())

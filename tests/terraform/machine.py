"""A VM as it was planned: what its cloud-config writes and starts."""

import base64
import re
import shlex
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from tests.terraform.cli import Plan

KINDS = {"control": "google_compute_instance", "worker": "google_compute_region_instance_template"}
UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`docker run` with these options, of this image, and what runs in it."""

    options: list[str]
    image: str
    command: list[str]


class Machine:
    """The control VM, or a worker."""

    def __init__(self, plan: Plan, name: str) -> None:
        text = plan.only(KINDS[name])["metadata"]["user-data"]
        assert text.startswith("#cloud-config\n")
        config: dict[str, Any] = yaml.safe_load(text)
        self.commands: list[str] = config["runcmd"]
        self.files = {file["path"]: base64.b64decode(file["content"]).decode() for file in config["write_files"]}
        self.units = {
            path.stem.removeprefix("lowtide-"): text
            for path, text in ((Path(path), text) for path, text in self.files.items())
            if path.parent == UNITS and path.suffix == ".service"
        }

    @property
    def settings(self) -> dict[str, str]:
        """What every container is told, as docker reads it: a line is a variable, and nothing is quoted."""
        return dict(line.split("=", 1) for line in self.files["/var/lib/lowtide/settings.env"].splitlines())

    def docker_run(self, service: str) -> "Run":
        """How a service is run."""
        [line] = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", self.units[service], re.MULTILINE)
        words = shlex.split(line.replace("\\\n", " "))
        assert words[:2] == ["/usr/bin/docker", "run"]
        options = list(takewhile(lambda word: word.startswith("--"), words[2:]))
        image, *command = words[2 + len(options) :]
        return Run(options=options, image=image, command=command)

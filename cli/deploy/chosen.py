"""What a person chose in terraform.tfvars, and the defaults of what was not chosen: asked of terraform itself."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lowtide.cli.deploy.errors import NotChosen
from lowtide.cli.deploy.plan import AttachedGpus
from lowtide.cli.deploy.terraform import COPY, ROOT, UNSET, Terraform

CALCULATED = {"has_gpu": "local.has_gpu", "has_memorystore": "var.memorystore != null"}
"""What is no variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Variables of deploy/terraform, by their names there."""

    region: str
    image_repository: str
    image_tag: str
    redis_disk_gb: int
    redis_image: str | None
    redis_password_secret: str
    worker_boot_disk_gb: int
    worker_boot_image: str
    worker_gpu: AttachedGpus | None
    worker_machine_type: str
    worker_zones: tuple[str, ...] | None
    has_gpu: bool
    has_memorystore: bool


def chosen_by(terraform: Terraform) -> Chosen:
    """Raises NotChosen, TerraformFailed."""
    asked = {field.name: CALCULATED.get(field.name, f"var.{field.name}") for field in fields(Chosen)}
    everything = ", ".join(f"{name} = {expression}" for name, expression in asked.items())
    found = terraform.value_of(f"{{{everything}}}")
    if found is UNSET:
        missing = [name for name, expression in asked.items() if terraform.value_of(expression) is UNSET]
        raise NotChosen(f"{ROOT}/terraform.tfvars does not choose {', '.join(missing)}", COPY)
    return read_chosen(found)


def read_chosen(found: Mapping[str, Any]) -> Chosen:
    """Of what terraform says of the variables."""
    gpu, zones = found["worker_gpu"], found["worker_zones"]
    values = {
        **found,
        "worker_gpu": gpu and AttachedGpus(type=gpu["type"], count=gpu["count"]),
        "worker_zones": None if zones is None else tuple(zones),
    }
    return Chosen(**values)

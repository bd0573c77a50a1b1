"""Whether the project's quotas have room for the largest fleet, and which zones have its machine."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lowtide.cli.checks.findings import Finding, failed, ok, warning
from lowtide.cli.deploy.apis import GoogleApis
from lowtide.cli.deploy.chosen import Chosen
from lowtide.cli.terminal import counted

WHAT = "Quotas"
GPU_QUOTAS = {
    "nvidia-a100-80gb": "NVIDIA_A100_80GB_GPUS",
    "nvidia-h100-80gb": "NVIDIA_H100_GPUS",
    "nvidia-l4": "NVIDIA_L4_GPUS",
    "nvidia-tesla-a100": "NVIDIA_A100_GPUS",
    "nvidia-tesla-p100": "NVIDIA_P100_GPUS",
    "nvidia-tesla-p4": "NVIDIA_P4_GPUS",
    "nvidia-tesla-t4": "NVIDIA_T4_GPUS",
    "nvidia-tesla-v100": "NVIDIA_V100_GPUS",
}
"""By type of GPU, what a region's quota of it is called: `Quota.metric` of the Compute API, which has no newer ones."""
CPUS = "CPUS"
"""Of machine types that have no quota of their own: e2, as the control VM's, and n1 for example."""
SPOT = "PREEMPTIBLE_"
"""What such a quota of Spot VMs begins with."""
CONTROL_CPUS = 2
CONTROL_BOOT_GB = 20
"""Of the control VM, as deploy/terraform/control.tf and its default machine type have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineType:
    """As a zone has it. `gpus`: how many of each type it brings."""

    cpus: int
    gpus: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaNeed:
    """`each` for every worker and `fixed` beside them, of the quota `metric`; without a `region`, of all regions'."""

    metric: str
    each: float
    fixed: float = 0
    region: str = ""

    @property
    def name(self) -> str:
        """As a person knows it."""
        return f"{self.metric} in {self.region}" if self.region else self.metric

    def workers(self, limit: float) -> int:
        """How many the limit has room for."""
        return max(0, math.floor((limit - self.fixed) / self.each))


def quotas(apis: GoogleApis, project: str, chosen: Chosen, *, workers_max: int) -> Iterator[Finding]:
    """Zones first, since they say what the machine is made of."""
    by_zone = machine_types(apis, project, chosen)
    yield from zones(chosen, frozenset(by_zone))
    if not (by_zone and workers_max):
        return
    machine = next(iter(by_zone.values()))
    region = apis.get("compute", f"compute/v1/projects/{project}/regions/{chosen.region}") or {}
    everywhere = apis.get("compute", f"compute/v1/projects/{project}") or {}
    limits = {**_limits(everywhere), **_limits(region)}
    yield from judged(needs(chosen, machine, limits), limits, project=project, workers_max=workers_max)


def machine_types(apis: GoogleApis, project: str, chosen: Chosen) -> dict[str, MachineType]:
    """The workers' machine type, by each zone of the region that has it."""
    found = {}
    pages = apis.pages(
        "compute",
        f"compute/v1/projects/{project}/aggregated/machineTypes",
        filter=f'name = "{chosen.worker_machine_type}"',
    )
    for page in pages:
        for scope, there in page.get("items", {}).items():
            zone = scope.removeprefix("zones/")
            for one in there.get("machineTypes", ()) if zone.startswith(f"{chosen.region}-") else ():
                gpus = {of["guestAcceleratorType"]: of["guestAcceleratorCount"] for of in one.get("accelerators", ())}
                found[zone] = MachineType(cpus=one["guestCpus"], gpus=gpus)
    return found


def zones(chosen: Chosen, having: frozenset[str]) -> Iterator[Finding]:
    """Whether the group's zones have the machine. `having`: those of the region that do."""
    machine, there = chosen.worker_machine_type, ", ".join(sorted(having))
    if not having:
        yield failed(
            "Machines",
            f"no zone of {chosen.region} has {machine}",
            "correct worker_machine_type or region in terraform.tfvars: "
            f"gcloud compute machine-types list --filter=name={machine} lists the zones",
        )
    elif chosen.worker_zones is None:
        yield warning(
            "Machines",
            f"{machine} is in {there}; without worker_zones Google takes three zones, with such machines or not",
            f"worker_zones = {json.dumps(sorted(having))} in terraform.tfvars",
        )
    elif without := sorted(set(chosen.worker_zones) - having):
        yield failed(
            "Machines",
            f"{', '.join(without)}: no {machine} there, but in {there}",
            "correct worker_zones in terraform.tfvars",
        )
    else:
        yield ok("Machines", f"{machine} is in {', '.join(chosen.worker_zones)}")


def needs(chosen: Chosen, machine: MachineType, limits: Mapping[str, float]) -> list[QuotaNeed]:
    """What the fleet counts against. Spot VMs count against the quotas of their own where the project has been granted
    such, else against the usual ones; of GPUs, only ever against their own (page "Spot VMs").
    """
    region = chosen.region
    attached = {chosen.worker_gpu.type: chosen.worker_gpu.count} if chosen.worker_gpu else {}
    gpus = {**machine.gpus, **attached}
    found = [
        QuotaNeed(metric=f"{SPOT}{GPU_QUOTAS.get(kind, kind)}", region=region, each=count)
        for kind, count in gpus.items()
    ]
    if gpus:
        found.append(QuotaNeed(metric="GPUS_ALL_REGIONS", each=sum(gpus.values())))
    cpus = _cpus(chosen.worker_machine_type, limits)
    disks_gb = CONTROL_BOOT_GB + chosen.redis_disk_gb
    return [
        *found,
        QuotaNeed(metric=cpus, region=region, each=machine.cpus, fixed=CONTROL_CPUS if cpus == CPUS else 0),
        QuotaNeed(metric="CPUS_ALL_REGIONS", each=machine.cpus, fixed=CONTROL_CPUS),
        QuotaNeed(metric="SSD_TOTAL_GB", region=region, each=chosen.worker_boot_disk_gb, fixed=disks_gb),
        QuotaNeed(metric="INSTANCES", region=region, each=1, fixed=1),
    ]


def judged(
    wanted: Sequence[QuotaNeed], limits: Mapping[str, float], *, project: str, workers_max: int
) -> Iterator[Finding]:
    """A finding for each quota that has no room for the largest fleet, and one for all that have."""
    enough = []
    for need in wanted:
        limit = limits.get(need.metric)
        if limit is None:
            if need.metric.startswith(SPOT):
                yield warning(WHAT, f"{need.name} can't be read", f"look at it yourself: {_page(project)}")
            continue
        room, ask = need.workers(limit), need.fixed + need.each * workers_max
        said = f"{need.name} is {limit:,.10g}"
        remedy = f"ask for {ask:,.10g}: {_page(project)}"
        if room == 0:
            yield failed(WHAT, f"{said}: no worker will ever start", remedy)
        elif room < workers_max:
            less = f"{remedy}; or set LOWTIDE_FLEET_MAX to {room}"
            yield warning(WHAT, f"{said}: room for {counted(room, 'worker')} of {workers_max}", less)
        else:
            enough.append(need.metric)
    if enough:
        yield ok(WHAT, f"room for {counted(workers_max, 'worker')}: {', '.join(enough)}")


def _cpus(machine_type: str, limits: Mapping[str, float]) -> str:
    """The quota that CPUs of such Spot VMs count against."""
    own = f"{machine_type.partition('-')[0].upper()}_CPUS"
    if limits.get(f"{SPOT}CPUS"):
        return f"{SPOT}CPUS"
    return own if own in limits else CPUS


def _limits(said: Mapping[str, Any]) -> dict[str, float]:
    return {one["metric"]: one["limit"] for one in said.get("quotas", ())}


def _page(project: str) -> str:
    return f"https://console.cloud.google.com/iam-admin/quotas?project={project}"

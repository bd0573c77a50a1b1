"""What a plan of deploy/terraform is about, from `terraform show -json`: what changes, and the fleet that it makes.

Pure. Source of the form: https://developer.hashicorp.com/terraform/internals/json-format, "Plan representation".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lowtide.autoscaling.policy.policy import Mode, Policy, ScaleInControl, Signal
from lowtide.autoscaling.policy.schedule import Schedule

HOLDS_DATA = {
    "google_pubsub_topic": "messages that its subscriptions have not got",
    "google_pubsub_subscription": "every message that waits in it",
    "google_bigquery_dataset": "its tables",
    "google_bigquery_table": "every result that it keeps",
    "google_compute_disk": "everything that Redis holds, callers' tasks and results among it",
    "google_redis_instance": "everything that Redis holds, callers' tasks and results among it",
}
"""By type of resource, what is gone with it."""
REDIS_DISK, MEMORYSTORE = "google_compute_disk.redis[0]", "google_redis_instance.memorystore[0]"
"""One of them is there."""


class Action(StrEnum):
    """What becomes of a resource."""

    CREATE = "create"
    CHANGE = "change"
    REPLACE = "replace"
    """It is destroyed and made anew, in one order or the other."""
    DESTROY = "destroy"
    FORGET = "forget"
    """It stays, and Terraform keeps it no longer."""


ACTIONS = {
    ("create",): Action.CREATE,
    ("update",): Action.CHANGE,
    ("delete", "create"): Action.REPLACE,
    ("create", "delete"): Action.REPLACE,
    ("delete",): Action.DESTROY,
    ("forget",): Action.FORGET,
}
"""By what a plan says."""
NOTHING = {("no-op",), ("read",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChange:
    """One resource that does not stay as it is. `loses`: what is gone with it, if it holds data."""

    address: str
    action: Action
    loses: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedGpus:
    """GPUs beside those that a machine type has by itself."""

    type: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A kind of VM. `disk_gb`: of all its disks. `max_run_s`: it lives no longer."""

    type: str
    spot: bool
    disk_gb: int
    gpus: AttachedGpus | None = None
    max_run_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorystore:
    """In the place of Redis on the control VM."""

    tier: str
    memory_gb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """`changes` in the plan's order; the rest is how the fleet is once it is applied. `zones`: without any, Google
    chooses. `nat`: whether there is a Cloud NAT.
    """

    region: str
    changes: tuple[ResourceChange, ...]
    policy: Policy
    worker: Machine
    zones: tuple[str, ...]
    control: Machine
    nat: bool
    memorystore: Memorystore | None = None

    @property
    def losses(self) -> tuple[ResourceChange, ...]:
        """Changes by which data is lost."""
        return tuple(change for change in self.changes if change.loses)


def read_plan(shown: Mapping[str, Any]) -> FleetPlan:
    """Of what `terraform show -json` says of a plan of deploy/terraform. What is known only after it was applied is
    missing there.
    """
    resources = [one for one in shown["resource_changes"] if one["mode"] == "managed"]
    # A deposed object, which an apply that failed half-way has left, has the address of the current one.
    planned: dict[str, Any] = {one["address"]: one["change"]["after"] for one in resources if "deposed" not in one}
    autoscaler = planned["google_compute_region_autoscaler.workers"]
    group = planned["google_compute_region_instance_group_manager.workers"]
    redis_disk, memorystore = planned.get(REDIS_DISK), planned.get(MEMORYSTORE)
    return FleetPlan(
        region=autoscaler["region"],
        changes=tuple(_changes(resources)),
        policy=_policy(autoscaler["autoscaling_policy"][0]),
        worker=_worker(planned["google_compute_region_instance_template.worker"]),
        zones=tuple(sorted(group.get("distribution_policy_zones") or ())),
        control=_control(planned["google_compute_instance.control"], redis_disk["size"] if redis_disk else 0),
        nat=any(one["type"] == "google_compute_router_nat" and one["change"]["after"] for one in resources),
        memorystore=memorystore and Memorystore(tier=memorystore["tier"], memory_gb=memorystore["memory_size_gb"]),
    )


def _changes(resources: Sequence[Mapping[str, Any]]) -> list[ResourceChange]:
    changes = []
    for one in resources:
        actions = tuple(one["change"]["actions"])
        if actions not in NOTHING:
            loses = HOLDS_DATA.get(one["type"], "") if "delete" in actions else ""
            changes.append(ResourceChange(address=one["address"], action=ACTIONS[actions], loses=loses))
    return changes


def _policy(planned: Mapping[str, Any]) -> Policy:
    [control] = planned["scale_in_control"] or [None]
    return Policy(
        min_replicas=planned["min_replicas"],
        max_replicas=planned["max_replicas"],
        signals=tuple(
            Signal(
                metric=one["name"],
                filter=one["filter"],
                single_instance_assignment=one["single_instance_assignment"],
            )
            for one in planned["metric"]
        ),
        schedules=tuple(
            Schedule(
                name=one["name"],
                min_required_replicas=one["min_required_replicas"],
                cron=one["schedule"],
                duration_s=one["duration_sec"],
                time_zone=one["time_zone"],
                disabled=one["disabled"],
            )
            for one in planned["scaling_schedules"]
        ),
        stabilization_period_s=planned["stabilization_period"],
        scale_in_control=control
        and ScaleInControl(
            time_window_s=control["time_window_sec"], max_scaled_in=control["max_scaled_in_replicas"][0]["fixed"]
        ),
        mode=Mode(planned["mode"]),
    )


def _worker(template: Mapping[str, Any]) -> Machine:
    [scheduling] = template["scheduling"]
    [attached] = template.get("guest_accelerator") or [None]
    return Machine(
        type=template["machine_type"],
        spot=scheduling["provisioning_model"] == "SPOT",
        disk_gb=sum(disk["disk_size_gb"] for disk in template["disk"]),
        gpus=attached and AttachedGpus(type=attached["type"], count=attached["count"]),
        max_run_s=scheduling["max_run_duration"][0]["seconds"],
    )


def _control(instance: Mapping[str, Any], redis_disk_gb: int) -> Machine:
    boot_gb = instance["boot_disk"][0]["initialize_params"][0]["size"]
    return Machine(type=instance["machine_type"], spot=False, disk_gb=boot_gb + redis_disk_gb)

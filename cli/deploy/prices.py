"""What a fleet costs, by a table of list prices: Google is not asked.

US dollars in us-central1, without taxes and discounts. Spot prices may change every day.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lowtide.cli.deploy.plan import FleetPlan, Machine

REGION = "us-central1"
HOURS_A_MONTH = 730

SOURCES = (
    "n1, g2, T4: https://github.com/skypilot-org/skypilot-catalog, spring 2026",
    "a2: https://github.com/Cyclenerd/google-cloud-pricing-cost-calculator, March 2025",
    "e2, disks: https://cloud.google.com/products/compute/pricing/general-purpose, as quoted in August 2026",
    "Cloud NAT: https://cloud.google.com/nat/pricing, an undated copy",
    "Memorystore: https://cloud.google.com/memorystore/docs/redis/pricing, as quoted in September 2026",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyPrice:
    """Of a machine with all that it has by itself, or of one GPU. `gpus`: those that the machine has."""

    usd: float
    spot_usd: float | None = None
    gpus: str = ""


MACHINES = {
    "e2-small": HourlyPrice(usd=0.01675),
    "n1-standard-4": HourlyPrice(usd=0.19, spot_usd=0.0638),
    "n1-standard-8": HourlyPrice(usd=0.38, spot_usd=0.12765),
    "g2-standard-4": HourlyPrice(usd=0.7068, spot_usd=0.3612, gpus="1 L4"),
    "g2-standard-8": HourlyPrice(usd=0.8536, spot_usd=0.4362, gpus="1 L4"),
    "a2-highgpu-1g": HourlyPrice(usd=3.6734, spot_usd=1.2934, gpus="1 A100"),
}
GPUS = {"nvidia-tesla-t4": HourlyPrice(usd=0.35, spot_usd=0.1915)}
DISK_GB_MONTH_USD = 0.10
"""pd-balanced."""
MEMORYSTORE_GB_HOUR_USD = {"BASIC": 0.049, "STANDARD_HA": 0.064}
MEMORYSTORE_M1_GB = 4
"""More is cheaper by the GB."""
NAT_VM_HOUR_USD = 0.0014
NAT_ADDRESS_HOUR_USD = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one part. `usd` is None where no price is known here."""

    what: str
    usd: float | None


def worker_hour(machine: Machine) -> list[Cost]:
    """What one worker costs in an hour."""
    costs = [Cost(what=machine.type, usd=_hour(MACHINES.get(machine.type), spot=machine.spot))]
    if machine.gpus:
        each = _hour(GPUS.get(machine.gpus.type), spot=machine.spot)
        usd = None if each is None else each * machine.gpus.count
        costs.append(Cost(what=f"{machine.gpus.count} {machine.gpus.type}", usd=usd))
    costs.append(Cost(what=f"disk of {machine.disk_gb} GB", usd=machine.disk_gb * DISK_GB_MONTH_USD / HOURS_A_MONTH))
    return costs


def idle_month(plan: FleetPlan) -> list[Cost]:
    """What a month costs in which nothing waits, and no schedule is active."""
    return list(_idle_month(plan))


def _idle_month(plan: FleetPlan) -> Iterator[Cost]:
    yield Cost(what=f"control VM {plan.control.type}", usd=_month(_hour(MACHINES.get(plan.control.type), spot=False)))
    yield Cost(what=f"its disks, {plan.control.disk_gb} GB", usd=plan.control.disk_gb * DISK_GB_MONTH_USD)
    if redis := plan.memorystore:
        each = MEMORYSTORE_GB_HOUR_USD[redis.tier] if redis.memory_gb <= MEMORYSTORE_M1_GB else None
        yield Cost(
            what=f"Memorystore {redis.tier}, {redis.memory_gb} GB",
            usd=_month(None if each is None else each * redis.memory_gb),
        )
    if plan.nat:
        yield Cost(what="Cloud NAT", usd=_month(NAT_VM_HOUR_USD + NAT_ADDRESS_HOUR_USD))
    if least := plan.policy.min_replicas:
        hour = total(worker_hour(plan.worker))
        yield Cost(what=f"{least} of the workers", usd=_month(None if hour is None else least * hour))


def total(costs: list[Cost]) -> float | None:
    """None when the price of a part is not known."""
    known = [cost.usd for cost in costs if cost.usd is not None]
    return sum(known) if len(known) == len(costs) else None


def _hour(price: HourlyPrice | None, *, spot: bool) -> float | None:
    if price is None:
        return None
    return price.spot_usd if spot else price.usd


def _month(hour_usd: float | None) -> float | None:
    return None if hour_usd is None else hour_usd * HOURS_A_MONTH

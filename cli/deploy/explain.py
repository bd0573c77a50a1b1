"""A plan in words for a person, and in JSON for a program. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from lowtide.autoscaling.policy.policy import Mode, Policy
from lowtide.cli.deploy import prices
from lowtide.cli.deploy.plan import Action, FleetPlan, Machine, ResourceChange
from lowtide.cli.deploy.prices import Cost
from lowtide.cli.deploy.terraform import PLAN, ROOT
from lowtide.cli.terminal import counted, shown

APPLY = f"terraform -chdir={ROOT} apply {PLAN}"
COLUMN = 10
"""Where the words begin, behind what they are about."""
SAID = {
    Action.CREATE: "created",
    Action.CHANGE: "changed",
    Action.REPLACE: "destroyed and made anew",
    Action.DESTROY: "destroyed",
    Action.FORGET: "kept, and forgotten by Terraform",
}
UNITS_S = {86_400: "day", 3600: "hour", 60: "minute"}


def in_words(plan: FleetPlan) -> str:
    """Some twenty lines; the last one says how to apply it."""
    return "\n".join(_lines(plan))


def in_json(plan: FleetPlan) -> dict[str, Any]:
    """What `in_words` says, for a program. A cost of null is one whose price is not known."""
    idle, worker = prices.idle_month(plan), prices.worker_hour(plan.worker)
    return {
        "changes": [asdict(change) for change in plan.changes],
        "policy": asdict(plan.policy),
        "worker": asdict(plan.worker),
        "region": plan.region,
        "zones": plan.zones,
        "priced_for": prices.REGION,
        "idle_usd_a_month": {"total": prices.total(idle), **{cost.what: cost.usd for cost in idle}},
        "worker_usd_an_hour": {"total": prices.total(worker), **{cost.what: cost.usd for cost in worker}},
        "apply": APPLY if plan.changes else None,
    }


def _lines(plan: FleetPlan) -> Iterator[str]:
    yield from _entry("Changes", _changes(plan.changes))
    for loss in plan.losses:
        yield f"DATA LOSS: {shown(loss.address)} is {SAID[loss.action]}, and with it {loss.loses}."
    yield from _entry("Workers", _workers(plan))
    yield from _entry("Sized by", _signals(plan.policy))
    yield from _entry("Shrinks", _shrinks(plan.policy))
    yield from _entry("Idle", _idle(plan))
    yield from _entry("Busy", _busy(plan))
    yield from _entry("Prices", _prices(plan))
    yield ""
    yield f"Nothing was applied. To apply it: {APPLY}" if plan.changes else "There is nothing to apply."


def _entry(about: str, lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{'' if number else about:{COLUMN}}{line}"


def _changes(changes: Sequence[ResourceChange]) -> Iterator[str]:
    counts = Counter(change.action for change in changes)
    if not changes:
        yield "none: all is as it was applied"
    for action in Action:
        if count := counts[action]:
            yield f"{counted(count, 'resource')} {'is' if count == 1 else 'are'} {SAID[action]}"
            if action is not Action.CREATE:  # of which there are some fifty at first
                yield from (f"  {shown(change.address)}" for change in changes if change.action is action)


def _workers(plan: FleetPlan) -> Iterator[str]:
    policy, worker = plan.policy, plan.worker
    spot = "Spot" if worker.spot else "not Spot"
    yield f"{policy.min_replicas} to {policy.max_replicas} × {_machine(worker)}, {spot}"
    yield f"in {', '.join(plan.zones)}" if plan.zones else f"in zones of {plan.region} that Google chooses"
    if worker.max_run_s is not None:
        yield f"no VM lives longer than {_time(worker.max_run_s)}"
    if policy.min_replicas:
        yield "never empty: LOWTIDE_FLEET_MIN"


def _machine(machine: Machine) -> str:
    price = prices.MACHINES.get(machine.type)
    if machine.gpus:
        return f"{machine.type} with {machine.gpus.count} {machine.gpus.type}"
    return f"{machine.type} with {price.gpus}" if price and price.gpus else machine.type


def _signals(policy: Policy) -> Iterator[str]:
    yield "the largest of"
    for signal in policy.signals:
        yield f"  {signal.metric} ÷ {signal.single_instance_assignment:,.10g}"
    for schedule in policy.schedules:
        off = " (disabled)" if schedule.disabled else ""
        yield (
            f"  {schedule.min_required_replicas}, from each {schedule.cron} of {schedule.time_zone} for "
            f"{_time(schedule.duration_s)}: schedule {schedule.name}{off}"
        )


def _shrinks(policy: Policy) -> Iterator[str]:
    if policy.mode is Mode.ONLY_SCALE_OUT:
        yield "never by the autoscaler"
        return
    yield f"to the largest size that was wanted within {_time(policy.stabilization_period_s)}"
    if control := policy.scale_in_control:
        yield f"by {counted(control.max_scaled_in, 'worker')} within {_time(control.time_window_s)} at most"


def _idle(plan: FleetPlan) -> Iterator[str]:
    costs = prices.idle_month(plan)
    yield f"{_sum(costs, digits=2)} a month while nothing waits"
    yield from (_part(cost, digits=2) for cost in costs)


def _busy(plan: FleetPlan) -> Iterator[str]:
    costs = prices.worker_hour(plan.worker)
    yield f"{_sum(costs, digits=3)} an hour for each worker"
    yield from (_part(cost, digits=3) for cost in costs)
    usd, most = prices.total(costs), plan.policy.max_replicas
    if usd is not None and most > 1:
        yield f"${usd * most:,.2f} an hour for all {most}"


def _prices(plan: FleetPlan) -> Iterator[str]:
    elsewhere = "" if plan.region == prices.REGION else f"; {plan.region} has prices of its own"
    yield f"US dollars, list prices of {prices.REGION}{elsewhere}; Spot prices may change every day"
    yield from (f"  {source}" for source in prices.SOURCES)
    yield "  not in it: traffic, Pub/Sub beyond 10 GiB a month, logs, metrics, images: docs/deploy.md"


def _sum(costs: Sequence[Cost], *, digits: int) -> str:
    known = sum(cost.usd for cost in costs if cost.usd is not None)
    without = any(cost.usd is None for cost in costs)
    return f"${known:,.{digits}f}" + (" and what has no price here" if without else "")


def _part(cost: Cost, *, digits: int) -> str:
    return f"  {cost.what}: " + ("no price is known here" if cost.usd is None else f"${cost.usd:,.{digits}f}")


def _time(seconds: int) -> str:
    for unit_s, unit in UNITS_S.items():
        if seconds and seconds % unit_s == 0:
            return counted(seconds // unit_s, unit)
    return counted(seconds, "second")

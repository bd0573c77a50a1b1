"""The autoscaler that is planned has the policy that `lowtide up` follows."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.autoscaling.policy.policy import Mode, Policy, ScaleInControl, Signal
from lowtide.autoscaling.policy.schedule import Schedule
from lowtide.config import Settings, load_settings
from tests.terraform.cli import DEPLOY, Terraform

PLANS = 12
"""A plan takes a second."""

NAMES = st.from_regex(r"[a-z][a-z0-9-]{2,10}", fullmatch=True)


@st.composite
def schedules(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "name": draw(NAMES),
        "min_required_replicas": draw(st.integers(0, 50)),
        "cron": draw(st.sampled_from(["30 8 * * Mon-Fri", "0 0 1 * *", "*/15 22 * * 6", "0 9 24 12 * 2027"])),
        "duration_s": draw(st.integers(300, 86_400)),
        "time_zone": draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"])),
        "disabled": draw(st.booleans()),
    }


@st.composite
def fleets(draw: st.DrawFn) -> Settings:
    least = draw(st.integers(0, 20))
    subscriptions = st.sampled_from(["lowtide-requests", "projects/other/subscriptions/urgent,later", ""])
    return load_settings(
        project="my-project",
        fleet=draw(st.sampled_from(["default", "gce_instance", "%{x} AND y", "naïve"])),
        fleet_min=least,
        fleet_max=draw(st.integers(least, 1000)),
        fleet_work_s=draw(st.floats(1e-3, 1e6)),
        fleet_messages=draw(st.integers(0, 2_000_000)),
        fleet_stabilization_s=draw(st.integers(0, 3600)),
        fleet_schedules=draw(st.lists(schedules(), max_size=3, unique_by=lambda one: one["name"])),
        fleet_scale_in_max=draw(st.none() | st.integers(1, 100)),
        fleet_scale_in_window_s=draw(st.integers(1, 3600)),
        subscription=draw(subscriptions),
    )


def planned_policy(terraform: Terraform) -> Policy:
    """The policy as Compute Engine's API would be given it."""
    plan = terraform.planned("-target=google_compute_region_autoscaler.workers")
    [policy] = plan.only("google_compute_region_autoscaler")["autoscaling_policy"]
    [control] = policy["scale_in_control"] or [None]
    return Policy(
        min_replicas=policy["min_replicas"],
        max_replicas=policy["max_replicas"],
        signals=tuple(
            Signal(
                metric=signal["name"],
                filter=signal["filter"],
                single_instance_assignment=float(signal["single_instance_assignment"]),
            )
            for signal in policy["metric"]
        ),
        schedules=tuple(
            Schedule(
                name=schedule["name"],
                min_required_replicas=schedule["min_required_replicas"],
                cron=schedule["schedule"],
                duration_s=schedule["duration_sec"],
                time_zone=schedule["time_zone"],
                disabled=schedule["disabled"],
            )
            for schedule in policy["scaling_schedules"]
        ),
        stabilization_period_s=policy["stabilization_period"],
        mode=Mode(policy["mode"]),
        scale_in_control=control
        and ScaleInControl(
            time_window_s=control["time_window_sec"], max_scaled_in=control["max_scaled_in_replicas"][0]["fixed"]
        ),
    )


def in_order(policy: Policy) -> Policy:
    """Compute Engine knows schedules by name, in no order."""
    return replace(policy, schedules=tuple(sorted(policy.schedules, key=lambda one: one.name)))


@pytest.mark.parametrize("kind", [Policy, Signal, Schedule, ScaleInControl])
def test_every_part_of_a_policy_is_declared_or_terraform_would_leave_it_out_in_silence(kind: type) -> None:
    text = (DEPLOY / "terraform" / "variables.tf").read_text()
    declared = text.partition('variable "policy" {')[2].partition("  validation {")[0]

    assert {field.name for field in fields(kind)} <= set(re.findall(r"^ +(\w+) +=", declared, re.MULTILINE))


@settings(max_examples=PLANS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=fleets())
def test_the_planned_policy_is_the_one_of_the_settings(terraform: Terraform, chosen: Settings) -> None:
    terraform.given(settings=chosen)

    assert in_order(planned_policy(terraform)) == in_order(policy_of(chosen))

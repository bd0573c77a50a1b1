import json
from dataclasses import replace

import pytest

from lowtide.autoscaling.policy.policy import Mode, Policy, ScaleInControl, Signal
from lowtide.autoscaling.policy.schedule import Schedule
from lowtide.cli.deploy.explain import in_json, in_words
from lowtide.cli.deploy.plan import Action, AttachedGpus, FleetPlan, Machine, Memorystore, ResourceChange
from lowtide.cli.deploy.prices import SOURCES

WORK = Signal(
    metric="custom.googleapis.com/lowtide/gpu_seconds_outstanding",
    filter='resource.type = "global"',
    single_instance_assignment=60,
)
PLAN = FleetPlan(
    region="us-central1",
    changes=(
        ResourceChange(address="google_compute_network.network", action=Action.CREATE),
        ResourceChange(address="google_compute_subnetwork.subnetwork", action=Action.CREATE),
    ),
    policy=Policy(max_replicas=10, signals=(WORK,)),
    worker=Machine(type="g2-standard-4", spot=True, disk_gb=50, max_run_s=86_400),
    zones=("us-central1-a", "us-central1-b"),
    control=Machine(type="e2-small", spot=False, disk_gb=30),
    nat=False,
)


def test_a_plan_is_some_twenty_lines_of_which_the_last_says_how_to_apply_it() -> None:
    assert in_words(PLAN).splitlines() == [
        "Changes   2 resources are created",
        "Workers   0 to 10 × g2-standard-4 with 1 L4, Spot",
        "          in us-central1-a, us-central1-b",
        "          no VM lives longer than 1 day",
        "Sized by  the largest of",
        "            custom.googleapis.com/lowtide/gpu_seconds_outstanding ÷ 60",
        "Shrinks   to the largest size that was wanted within 10 minutes",
        "Idle      $15.23 a month while nothing waits",
        "            control VM e2-small: $12.23",
        "            its disks, 30 GB: $3.00",
        "Busy      $0.368 an hour for each worker",
        "            g2-standard-4: $0.361",
        "            disk of 50 GB: $0.007",
        "          $3.68 an hour for all 10",
        "Prices    US dollars, list prices of us-central1; Spot prices may change every day",
        *(f"            {source}" for source in SOURCES),
        "            not in it: traffic, Pub/Sub beyond 10 GiB a month, logs, metrics, images: docs/deploy.md",
        "",
        "Nothing was applied. To apply it: terraform -chdir=deploy/terraform apply lowtide.tfplan",
    ]


@pytest.mark.parametrize(
    ("address", "loses"),
    [
        ('google_pubsub_topic.topic["lowtide-requests"]', "messages that its subscriptions have not got"),
        ("google_compute_disk.redis[0]", "everything that Redis holds"),
    ],
)
@pytest.mark.parametrize("action", [Action.DESTROY, Action.REPLACE])
def test_what_data_is_lost_with_is_said_loudly(address: str, loses: str, action: Action) -> None:
    said = in_words(replace(PLAN, changes=(ResourceChange(address=address, action=action, loses=loses),)))

    assert f"DATA LOSS: {address} is destroyed" in said
    assert f"and with it {loses}." in said


def test_what_is_changed_or_destroyed_is_named() -> None:
    changes = (
        *PLAN.changes,
        ResourceChange(address="google_compute_router.internet[0]", action=Action.DESTROY),
        ResourceChange(address="google_compute_region_autoscaler.workers", action=Action.CHANGE),
    )

    assert in_words(replace(PLAN, changes=changes)).splitlines()[:5] == [
        "Changes   2 resources are created",
        "          1 resource is changed",
        "            google_compute_region_autoscaler.workers",
        "          1 resource is destroyed",
        "            google_compute_router.internet[0]",
    ]


def test_without_a_change_there_is_nothing_to_apply() -> None:
    lines = in_words(replace(PLAN, changes=())).splitlines()

    assert lines[0] == "Changes   none: all is as it was applied"
    assert lines[-1] == "There is nothing to apply."
    assert in_json(replace(PLAN, changes=()))["apply"] is None


def test_a_price_that_is_not_known_is_no_zero() -> None:
    plan = replace(PLAN, worker=replace(PLAN.worker, type="n4-standard-4"), region="europe-west4")
    said = in_words(plan)

    assert "$0.007 and what has no price here an hour for each worker" in said
    assert "n4-standard-4: no price is known here" in said
    assert "for all 10" not in said
    assert "list prices of us-central1; europe-west4 has prices of its own" in said
    assert in_json(plan)["worker_usd_an_hour"]["total"] is None


def test_a_fleet_with_all_that_can_be_chosen_is_told_of() -> None:
    schedule = Schedule(name="morning", min_required_replicas=2, cron="0 8 * * 1-5", duration_s=7200)
    plan = replace(
        PLAN,
        worker=Machine(
            type="n1-standard-4",
            spot=True,
            disk_gb=50,
            gpus=AttachedGpus(type="nvidia-tesla-t4", count=2),
            max_run_s=90,
        ),
        policy=replace(
            PLAN.policy,
            min_replicas=1,
            signals=(replace(WORK, single_instance_assignment=1_000_000),),
            schedules=(schedule,),
            scale_in_control=ScaleInControl(time_window_s=300, max_scaled_in=1),
        ),
        zones=(),
        nat=True,
    )
    said = in_words(plan)

    assert "Workers   1 to 10 × n1-standard-4 with 2 nvidia-tesla-t4, Spot" in said
    assert "in zones of us-central1 that Google chooses" in said
    assert "no VM lives longer than 90 seconds" in said
    assert "never empty: LOWTIDE_FLEET_MIN" in said
    assert "gpu_seconds_outstanding ÷ 1,000,000" in said
    assert "  2, from each 0 8 * * 1-5 of UTC for 2 hours: schedule morning" in said
    assert "by 1 worker within 5 minutes at most" in said
    assert "  Cloud NAT: $4.67" in said
    assert "  1 of the workers: $331.16" in said
    assert "  2 nvidia-tesla-t4: $0.383" in said


def test_a_group_that_the_autoscaler_never_shrinks_says_so() -> None:
    plan = replace(PLAN, policy=replace(PLAN.policy, mode=Mode.ONLY_SCALE_OUT))

    assert "Shrinks   never by the autoscaler" in in_words(plan)


def test_a_program_gets_the_same_as_json() -> None:
    told = json.loads(json.dumps(in_json(PLAN)))

    assert told["changes"][0] == {"address": "google_compute_network.network", "action": "create", "loses": ""}
    assert told["policy"]["max_replicas"] == 10
    assert told["worker"]["spot"] is True
    assert told["idle_usd_a_month"]["total"] == pytest.approx(15.2275)
    assert told["apply"] == "terraform -chdir=deploy/terraform apply lowtide.tfplan"


@pytest.mark.parametrize(("tier", "usd"), [("BASIC", "$35.77"), ("STANDARD_HA", "$46.72")])
def test_memorystore_is_paid_for_while_nothing_waits(tier: str, usd: str) -> None:
    said = in_words(replace(PLAN, memorystore=Memorystore(tier=tier, memory_gb=1)))

    assert f"Memorystore {tier}, 1 GB: {usd}" in said


def test_of_more_memorystore_than_has_a_price_here_the_rest_is_told() -> None:
    said = in_words(replace(PLAN, memorystore=Memorystore(tier="BASIC", memory_gb=5)))

    assert "Memorystore BASIC, 5 GB: no price is known here" in said

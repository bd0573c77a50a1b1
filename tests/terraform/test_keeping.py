"""What holds data is kept, and the group's size is left alone, whatever changes: shown on plans after an apply.

The provider here says of every change that the resource must be made anew, which is the worst that it may say.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lowtide.config import load_settings
from tests.terraform.cli import DEPLOY, OPTIONS, PLACE, Failed, Plan, Terraform
from tests.terraform.provider import Provider, serving

SETTINGS = load_settings(
    project="my-project", gs_buckets="pictures", https_hosts="images.example.org", reply_topics="mine"
)
KEPT = {
    "google_bigquery_dataset",
    "google_bigquery_table",
    "google_compute_disk",
    "google_pubsub_subscription",
    "google_pubsub_topic",
    "google_redis_instance",
}

CHANGES: dict[str, dict[str, Any]] = {
    "region": {"region": "europe-west4", "zone": "europe-west4-a"},
    "zone": {"zone": "us-central1-c"},
    "name": {"name": "other"},
    "image_repository": {"image_repository": "us-central1-docker.pkg.dev/other/lowtide"},
    "image_tag": {"image_tag": "0.2.0"},
    "redis_image": {"redis_image": "us-central1-docker.pkg.dev/my-project/lowtide/redis:8.0-alpine"},
    "redis_password_secret": {"redis_password_secret": "other"},
    "redis_memory_mb": {"redis_memory_mb": 512},
    "redis_disk_gb": {"redis_disk_gb": 20},
    "control_machine_type": {"control_machine_type": "e2-medium"},
    "worker_machine_type": {"worker_machine_type": "n2-standard-8"},
    "worker_gpu": {
        "worker_machine_type": "n1-standard-4",
        "worker_gpu": {"type": "nvidia-tesla-t4", "count": 1},
        "worker_boot_image": "projects/p/global/images/family/f",
    },
    "worker_boot_image": {"worker_boot_image": "projects/p/global/images/family/f"},
    "worker_boot_disk_gb": {"worker_boot_disk_gb": 100},
    "worker_zones": {"worker_zones": ["us-central1-a"]},
    "worker_max_run_s": {"worker_max_run_s": 3600},
    "worker_start_s": {"worker_start_s": 60},
    "caller_accounts": {"caller_accounts": ["web@my-project.iam.gserviceaccount.com"]},
    "alert_emails": {"alert_emails": ["a@example.org"]},
    "memorystore": {"memorystore": {"memory_gb": 1}},
    "uploads": {"uploads": {}},
    "bigquery": {"bigquery": None},
    "budget": {"budget": None},
}
"""By variable, what a person may write into terraform.tfvars."""
SETTINGS_CHANGES: dict[str, dict[str, Any]] = {
    "project": {"project": "other-project"},
    "fleet": {"fleet": "other"},
    "settings": {"models": "digits,resnet101", "weights": "resnet101=gs://weights/resnet101.pt"},
    "grace_s": {"grace_s": 30},
    "policy": {"fleet_min": 1, "fleet_max": 20},
    "metrics": {},
    "pubsub": {"subscription": "other", "topic": "other"},
    "fewer topics": {"reply_topics": ""},
    "no topics": {"subscription": ""},
    "worker_buckets": {"gs_buckets": "pictures,others"},
    "internet": {"https_hosts": ""},
}
"""Likewise, of the variables that `lowtide deploy vars` writes, by what is set."""


@pytest.fixture(scope="module")
def applied(terraform_here, tmp_path_factory) -> Iterator[Terraform]:
    """A root whose resources are there."""
    with serving(Provider(replaces=True)) as environment:
        terraform = Terraform(tmp_path_factory.mktemp("terraform") / "deploy", environment)
        terraform.given(settings=SETTINGS, **OPTIONS)
        made = terraform.run("apply", "-auto-approve", "-input=false")
        assert not isinstance(made, Failed), made
        yield terraform


@pytest.fixture(autouse=True)
def _as_applied(applied: Terraform) -> Iterator[None]:
    """The variables are those that were applied, and nothing changed them there."""
    yield
    applied.given(settings=SETTINGS, **OPTIONS)


def assert_keeps(plan: Plan | Failed) -> None:
    """Either the plan is refused since something would be lost, or nothing that holds data is."""
    if isinstance(plan, Failed):
        assert "Instance cannot be destroyed" in plan.said
    else:
        assert [one.address for one in plan.lost if one.type in KEPT] == []


def test_without_a_change_there_is_nothing_to_do(applied: Terraform) -> None:
    assert {one.actions for one in applied.planned().resources} == {("no-op",)}


@pytest.mark.parametrize("variable", CHANGES)
def test_no_change_of_a_variable_deletes_what_waits(applied: Terraform, variable: str) -> None:
    applied.given(**{**OPTIONS, **CHANGES[variable]})

    assert_keeps(applied.plan())


@pytest.mark.parametrize("variable", SETTINGS_CHANGES)
def test_no_change_of_a_setting_deletes_what_waits(applied: Terraform, variable: str) -> None:
    applied.given(settings=load_settings(**{**SETTINGS.model_dump(exclude_unset=True), **SETTINGS_CHANGES[variable]}))

    assert_keeps(applied.plan())


def test_every_variable_was_changed(applied: Terraform) -> None:
    shown = applied.run("show", "-json", "plan.bin")
    declared = json.loads(str(shown))["configuration"]["root_module"]["variables"]

    assert declared.keys() == {*CHANGES, *SETTINGS_CHANGES} - {"fewer topics", "no topics"}
    assert PLACE.keys() <= declared.keys()


@pytest.mark.parametrize("change", [{"name": "other"}, {"zone": "us-central1-c"}, {"memorystore": {"memory_gb": 1}}])
def test_a_plan_that_would_lose_something_says_so(applied: Terraform, change: dict[str, Any]) -> None:
    applied.given(**{**OPTIONS, **change})
    said = applied.plan()

    assert isinstance(said, Failed)
    assert "google_compute_disk.redis[0] has lifecycle.prevent_destroy set" in said.said


@pytest.mark.usefixtures("terraform_here")
def test_memorystore_is_kept_when_it_is_no_longer_asked_for(tmp_path: Path) -> None:
    with serving(Provider(replaces=True)) as environment:
        terraform = Terraform(tmp_path / "deploy", environment)
        terraform.given(settings=SETTINGS, memorystore={"memory_gb": 1})
        made = terraform.run("apply", "-auto-approve", "-input=false")
        assert not isinstance(made, Failed), made
        terraform.given(settings=SETTINGS)
        said = terraform.plan()

    assert isinstance(said, Failed)
    assert "google_redis_instance.memorystore[0] has lifecycle.prevent_destroy set" in said.said


@pytest.mark.usefixtures("terraform_here")
def test_the_autoscaler_goes_before_its_group_and_comes_after_the_new_one(tmp_path: Path) -> None:
    with serving(Provider()) as environment:
        terraform = Terraform(tmp_path / "deploy", environment)
        made = terraform.run("apply", "-auto-approve", "-input=false")
        assert not isinstance(made, Failed), made
        plan = terraform.planned("-replace=google_compute_region_instance_group_manager.workers")

    assert {one.type: one.actions for one in plan.lost} == {
        "google_compute_region_instance_group_manager": ("delete", "create"),
        "google_compute_region_autoscaler": ("delete", "create"),
    }


def test_a_subscription_that_the_settings_no_longer_name_is_not_deleted(applied: Terraform) -> None:
    applied.given(settings=load_settings(**{**SETTINGS.model_dump(exclude_unset=True), "subscription": "other"}))
    said = applied.plan()

    assert isinstance(said, Failed)
    assert 'google_pubsub_subscription.subscription["lowtide-requests"] has lifecycle.prevent_destroy set' in said.said


def test_nothing_is_torn_down_by_accident(applied: Terraform) -> None:
    said = applied.plan("-destroy")

    assert isinstance(said, Failed)
    assert "Instance cannot be destroyed" in said.said


def test_the_fleet_alone_is_torn_down_as_the_docs_say(applied: Terraform) -> None:
    file = applied.root / "terraform.tfstate"
    before = file.read_text()
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text()
    [pattern] = re.findall(r"terraform state list \| grep -E '([^']+)'", page)
    held = [address for address in str(applied.run("state list")).splitlines() if re.match(pattern, address)]
    try:
        applied.run("state rm", *held)
        plan = applied.planned("-destroy")
    finally:
        file.write_text(before)

    assert {one.type for one in plan.lost}.isdisjoint(KEPT)
    assert len(plan.lost) == len(plan.resources) > 40
    # What the exporters of other fleets write to stays when its resource goes.
    policies = [state["values"]["deletion_policy"] for state in descriptors_in(applied)]
    assert set(policies) == {"ABANDON"}


def descriptors_in(terraform: Terraform) -> list[dict[str, Any]]:
    shown = json.loads(str(terraform.run("show", "-json")))
    resources: list[dict[str, Any]] = shown["values"]["root_module"]["resources"]
    return [one for one in resources if one["type"] == "google_monitoring_metric_descriptor"]


def test_the_groups_size_is_the_autoscalers_and_terraform_leaves_it(applied: Terraform) -> None:
    file = applied.root / "terraform.tfstate"
    before = file.read_text()
    state = json.loads(before)
    [group] = [one for one in state["resources"] if one["type"] == "google_compute_region_instance_group_manager"]
    group["instances"][0]["attributes"]["target_size"] = 7
    file.write_text(json.dumps(state))
    try:
        plan = applied.planned()
    finally:
        file.write_text(before)

    assert {one.actions for one in plan.of_type("google_compute_region_instance_group_manager")} == {("no-op",)}

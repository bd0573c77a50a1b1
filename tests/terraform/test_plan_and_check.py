"""`lowtide deploy plan` and `check` in a checkout with a real terraform: what it plans is said in words, and what a
person chose is read from it.
"""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from lowtide.cli.checks.findings import Verdict
from lowtide.cli.deploy.apis import GoogleApis
from lowtide.cli.deploy.check import examine
from lowtide.cli.deploy.chosen import chosen_by
from lowtide.cli.deploy.errors import NotChosen, TerraformFailed
from lowtide.cli.deploy.plan import AttachedGpus, Memorystore, read_plan
from lowtide.cli.deploy.terraform import Terraform as Runner
from lowtide.cli.deploy.variables import variables_of
from lowtide.config import load_settings
from tests.fleet import LOWTIDE
from tests.google.stand_in import serving_google
from tests.terraform.cli import Failed, Terraform
from tests.terraform.provider import Provider, serving

TEMPLATE = "google_compute_region_instance_template.worker"
SIGNAL = "custom.googleapis.com/lowtide/gpu_seconds_outstanding"


@pytest.fixture(scope="module")
def environment(terraform_here) -> Iterator[dict[str, str]]:
    with serving(Provider(replaces=True)) as environment:
        yield environment


@pytest.fixture
def terraform(environment, tmp_path, monkeypatch) -> Terraform:
    """A root in a checkout, in which this process and those that it starts are."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("LOWTIDE_", "TF_"))]:
        monkeypatch.delenv(name)
    for name, value in {**environment, "LOWTIDE_PROJECT": "my-project"}.items():
        monkeypatch.setenv(name, value)
    return Terraform(tmp_path / "deploy", environment)


def lowtide(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOWTIDE, *arguments], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )


def test_a_plan_is_made_of_the_settings_of_now_and_said_in_words(terraform: Terraform) -> None:
    done = lowtide("deploy", "plan", LOWTIDE_FLEET_MAX="7", LOWTIDE_HTTPS_HOSTS="images.example.org")
    lines = done.stdout.splitlines()

    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("Changes   ")
    assert lines[0].endswith(" resources are created")
    assert lines[1] == "Workers   0 to 7 × n2-standard-4, Spot"
    assert f"            {SIGNAL} ÷ 60" in lines
    assert "            Cloud NAT: $4.67" in lines
    assert lines[-1] == "Nothing was applied. To apply it: terraform -chdir=deploy/terraform apply lowtide.tfplan"
    assert "Terraform will perform the following actions" in done.stderr
    assert not (terraform.root / "terraform.tfstate").exists()


def test_the_last_line_applies_it_and_then_there_is_nothing_to_do(terraform: Terraform) -> None:
    *_, command = lowtide("deploy", "plan").stdout.strip().rpartition("To apply it: ")
    subprocess.run(command.split(), check=True, capture_output=True)
    done = lowtide("deploy", "plan", "--json")

    assert json.loads(done.stdout)["changes"] == []


def test_data_that_would_be_lost_is_told_of_where_terraform_no_longer_refuses(terraform: Terraform) -> None:
    assert not isinstance(terraform.run("apply", "-auto-approve", "-input=false"), Failed)
    for file in terraform.root.glob("*.tf"):
        file.write_text(file.read_text().replace("prevent_destroy = true", "prevent_destroy = false"))
    terraform.given(redis_disk_gb=20)
    said = lowtide("deploy", "plan", LOWTIDE_SUBSCRIPTION="other").stdout

    assert "DATA LOSS: google_compute_disk.redis[0] is destroyed and made anew, and with it everything" in said
    assert (
        'DATA LOSS: google_pubsub_subscription.subscription["lowtide-requests"] is destroyed, and with it every message'
        in said
    )


def test_what_terraform_refuses_is_no_plan(terraform: Terraform) -> None:
    terraform.given(region="Iowa")
    done = lowtide("deploy", "plan")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "Expected a region such as us-central1." in done.stderr
    assert "Error: terraform plan has failed: what it says stands above." in done.stderr


def test_attached_gpus_are_read_from_a_plan(terraform: Terraform) -> None:
    terraform.given(
        worker_machine_type="n1-standard-4",
        worker_gpu={"type": "nvidia-tesla-t4", "count": 2},
        worker_boot_image="projects/p/global/images/family/f",
        worker_zones=["us-central1-b", "us-central1-a"],
    )
    runner = Runner()
    runner.plan()
    shown = runner.show_plan()
    plan = read_plan(shown)

    assert plan.worker.gpus == AttachedGpus(type="nvidia-tesla-t4", count=2)
    assert (plan.worker.disk_gb, plan.control.disk_gb, plan.nat) == (50, 30, False)
    assert plan.zones == ("us-central1-a", "us-central1-b")

    template = next(one for one in shown["resource_changes"] if one["address"] == TEMPLATE)
    old = {**template, "deposed": "4a3b2c1d", "change": {"actions": ["delete"], "before": {}, "after": None}}
    left_over = {**shown, "resource_changes": [*shown["resource_changes"], old]}
    assert read_plan(left_over).worker == plan.worker, "an apply that failed half-way has left an old template"


def test_memorystore_is_read_from_a_plan_and_then_there_is_no_disk_of_redis(terraform: Terraform) -> None:
    terraform.given(memorystore={"memory_gb": 2, "tier": "BASIC"})
    runner = Runner()
    runner.plan()
    plan = read_plan(runner.show_plan())

    assert plan.memorystore == Memorystore(tier="BASIC", memory_gb=2)
    assert plan.control.disk_gb == 20


def test_what_was_chosen_is_read_with_the_defaults_of_what_was_not(terraform: Terraform) -> None:
    terraform.given(worker_zones=["us-central1-a"])
    chosen = chosen_by(Runner())

    assert (chosen.region, chosen.worker_machine_type, chosen.worker_boot_disk_gb) == (
        "us-central1",
        "n2-standard-4",
        50,
    )
    assert (chosen.worker_zones, chosen.worker_gpu, chosen.has_gpu) == (("us-central1-a",), None, False)


def test_what_was_not_chosen_yet_is_named(terraform: Terraform) -> None:
    (terraform.root / "terraform.tfvars.json").write_text('{"worker_machine_type": "n2-standard-4"}')

    with pytest.raises(NotChosen, match=r"does not choose region, image_repository, image_tag: copy .*example"):
        chosen_by(Runner())


def test_whoever_has_chosen_nothing_is_told_where_to(terraform: Terraform) -> None:
    (terraform.root / "terraform.tfvars.json").unlink()

    with pytest.raises(TerraformFailed, match=r"chosen in deploy/terraform/terraform.tfvars: copy .*example"):
        chosen_by(Runner())


def test_a_wrong_choice_is_told_of_in_the_words_of_terraform(terraform: Terraform) -> None:
    terraform.given(region="Iowa")

    with pytest.raises(TerraformFailed) as error:
        chosen_by(Runner())

    assert error.value.why.startswith(
        "Invalid value for variable: Expected a region such as us-central1. This was checked by the validation rule"
    )


def test_a_check_begins_with_what_is_here_and_then_asks_google(terraform: Terraform) -> None:
    with serving_google() as google:

        def connect(project: str) -> tuple[GoogleApis, str]:
            return GoogleApis(AuthorizedSession(AnonymousCredentials()), base=google.base), f"who may see {project}"

        google.enabled.add("cloudresourcemanager")
        found = [one for one in examine(variables_of(load_settings()).values, connect) if one.what != "gcloud"]

    assert [(one.what, one.verdict) for one in found] == [
        ("Terraform", Verdict.OK),
        ("Credentials", Verdict.OK),
        ("APIs", Verdict.FAILED),
        ("Permissions", Verdict.FAILED),
    ]
    assert found[0].message == "n2-standard-4 in us-central1"
    assert found[1].message == "who may see my-project; project my-project"


def test_what_was_applied_is_known(terraform: Terraform) -> None:
    assert Runner().made() == frozenset()
    assert not isinstance(terraform.run("apply", "-auto-approve", "-input=false"), Failed)

    assert 'google_pubsub_topic.topic["lowtide-requests"]' in Runner().made()


def test_a_root_that_was_never_initialised_says_so(terraform: Terraform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_REATTACH_PROVIDERS")

    with pytest.raises(TerraformFailed, match=r"terraform -chdir=deploy/terraform init"):
        chosen_by(Runner())

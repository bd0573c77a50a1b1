"""deploy/terraform as a whole: what is planned for the default settings."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lowtide.autoscaling.export.monitoring import Monitoring
from lowtide.bridge.pubsub.create import LEASE_S, RETENTION_S, wanted
from lowtide.config import load_settings
from lowtide.config.metrics import FLEET, GPU_SECONDS_OUTSTANDING
from tests.terraform import provider
from tests.terraform.cli import DEPLOY, Plan, Terraform
from tests.terraform.machine import Machine

ROLES = {
    "roles/artifactregistry.reader",
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
    "roles/monitoring.viewer",
    "roles/pubsub.publisher",
    "roles/pubsub.subscriber",
    "roles/pubsub.viewer",
    "roles/secretmanager.secretAccessor",
    "roles/storage.objectViewer",
}
OF_THE_WHOLE_PROJECT = {"roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/monitoring.viewer"}
"""Logs and metrics have no smaller scope."""
SETTINGS = load_settings(project="my-project", gs_buckets="pictures", https_hosts="images.example.org")


@pytest.fixture(scope="module")
def plan(terraform: Terraform) -> Plan:
    terraform.given(settings=SETTINGS)
    return terraform.planned()


def test_it_is_formatted(terraform: Terraform) -> None:
    assert terraform.run("fmt", "-check", "-recursive") == ""


def test_it_is_valid_and_nothing_is_deprecated(terraform: Terraform) -> None:
    said = json.loads(str(terraform.run("validate", "-json")))

    assert (said["valid"], said["diagnostics"]) == (True, [])


def test_its_own_tests_pass_without_an_account_and_without_settings(terraform: Terraform) -> None:
    (terraform.root / "terraform.tfvars.json").unlink()
    (terraform.root / "lowtide.auto.tfvars.json").unlink()
    said = str(terraform.run("test"))
    terraform.given(settings=SETTINGS)

    assert re.search(r"Success! \d+ passed, 0 failed", said)
    assert len(re.findall(r"^ +run .*\.\.\. pass$", said, re.MULTILINE)) == sum(
        len(re.findall("^run ", file.read_text(), re.MULTILINE)) for file in (DEPLOY / "terraform/tests").glob("*.hcl")
    )


def test_the_schema_is_of_the_provider_that_the_root_asks_for_and_has_all_that_it_uses() -> None:
    code = "\n".join(file.read_text() for file in (DEPLOY / "terraform").glob("*.tf"))
    schema = provider.schema()

    [version] = re.findall(r'version = "~> ([\d.]+)"', code)
    assert schema["version"].startswith(f"{version}.")
    for word in ("resource", "data"):
        kinds = schema[f"{word.replace('data', 'data_source')}_schemas"]
        assert kinds.keys() == set(re.findall(rf'^{word} "(\w+)"', code, re.MULTILINE))


def test_no_machine_has_a_public_address(plan: Plan) -> None:
    machines = [one for one in plan.resources if one.after.get("network_interface")]

    assert {one.type for one in machines} == {"google_compute_instance", "google_compute_region_instance_template"}
    for machine in machines:
        [interface] = machine.after["network_interface"]
        assert interface["access_config"] == interface["ipv6_access_config"] == []


def test_roles_are_those_that_the_processes_need_and_of_single_resources_where_there_is_such_a_thing(
    plan: Plan,
) -> None:
    grants = [one for one in plan.resources if "_iam_" in one.type]

    # Not bindings or policies, which take away what others have given.
    assert {one.type.rpartition("_iam_")[2] for one in grants} == {"member"}
    assert {one.after["role"] for one in grants} == ROLES
    of_projects = {one.after["role"] for one in grants if one.type == "google_project_iam_member"}
    assert of_projects == OF_THE_WHOLE_PROJECT


def test_a_worker_reads_images_the_password_and_content_and_touches_no_topic(plan: Plan) -> None:
    accounts = {"control": "Lowtide: bridge, exporter, Flower and Redis", "worker": "Lowtide: workers"}
    assert {one.name: one.after["display_name"] for one in plan.of_type("google_service_account")} == accounts
    uses = {
        resource["address"]: resource["expressions"].get("member", {}).get("references", [])
        for resource in plan.configuration["root_module"]["resources"]
        if "_iam_" in resource["type"]
    }

    for address, references in uses.items():
        if "pubsub" in address:
            assert {"local.members.control", "data.google_storage_project_service_account.uploads"} & {*references}
            assert "local.members.worker" not in references


def test_pubsub_has_what_the_bridge_would_create(plan: Plan) -> None:
    want = wanted(SETTINGS)

    def path(kind: str, name: str) -> str:
        return f"projects/my-project/{kind}/{name}"

    topics = {path("topics", one.after["name"]) for one in plan.of_type("google_pubsub_topic")}
    subscriptions = plan.of_type("google_pubsub_subscription")
    assert topics == set(want.topics)
    names = {path("subscriptions", one.after["name"]) for one in subscriptions}
    assert names == {*want.subscriptions, *want.keepers}
    for one in subscriptions:
        assert one.after["ack_deadline_seconds"] == LEASE_S
        assert one.after["message_retention_duration"] == f"{RETENTION_S}s"
        assert one.after["expiration_policy"] == [{"ttl": ""}]
        assert one.after["dead_letter_policy"] == []


def test_the_descriptors_are_those_that_the_exporter_writes(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monitoring, written = Monitoring(load_settings(project="p", monitoring_host="127.0.0.1:1")), []
    monkeypatch.setattr(
        monitoring._client,
        "create_metric_descriptor",
        lambda *, metric_descriptor, **_: written.append(metric_descriptor),
    )
    monitoring.describe()
    monitoring.close()

    planned = {one.after["type"]: one.after for one in plan.of_type("google_monitoring_metric_descriptor")}
    # Other fleets of the project write them, too.
    assert {one["deletion_policy"] for one in planned.values()} == {"ABANDON"}
    assert planned.keys() == {one.type for one in written}
    for descriptor in written:
        found = planned[descriptor.type]
        for field in ("unit", "description", "display_name"):
            assert found[field] == getattr(descriptor, field)
        assert (found["metric_kind"], found["value_type"]) == ("GAUGE", "DOUBLE")
        assert {label["key"] for label in found["labels"]} == {label.key for label in descriptor.labels}


def test_the_metric_is_described_before_the_autoscaler_is_made(plan: Plan) -> None:
    [autoscaler] = [
        one
        for one in plan.configuration["root_module"]["resources"]
        if one["type"] == "google_compute_region_autoscaler"
    ]

    assert autoscaler["depends_on"] == ["google_monitoring_metric_descriptor.metric"]
    assert GPU_SECONDS_OUTSTANDING.type in {
        one.after["type"] for one in plan.of_type("google_monitoring_metric_descriptor")
    }


def test_the_dashboard_and_the_alerts_are_the_files_of_deploy(plan: Plan) -> None:
    dashboard = plan.only("google_monitoring_dashboard")["dashboard_json"]
    assert json.loads(dashboard) == json.loads((DEPLOY / "dashboard.json").read_text())

    planned = {one.after["display_name"]: one.after for one in plan.of_type("google_monitoring_alert_policy")}
    files = [json.loads(file.read_text()) for file in (DEPLOY / "alerts").glob("*.json")]
    assert len(planned) == len(files) >= 3
    for file in files:
        file["displayName"] += " (default)"
        assert dict(said_in(of_fleet(file, "default"))).items() <= dict(said_in(planned[file["displayName"]])).items()


def of_fleet(policy: Any, fleet: str) -> Any:
    """An alert's policy that looks at one fleet alone."""
    if isinstance(policy, dict):
        added = f' AND metric.labels.{FLEET} = "{fleet}"'
        return {name: value + added if name == "filter" else of_fleet(value, fleet) for name, value in policy.items()}
    return [of_fleet(one, fleet) for one in policy] if isinstance(policy, list) else policy


def said_in(policy: Any, *, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value of an alert's policy with its place, in the API's words and in the provider's: a block of which there
    is one stands in a list there, and durations are the same texts.
    """
    if isinstance(policy, dict):
        for name, value in policy.items():
            yield from said_in(value, at=(*at, re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)))
    elif isinstance(policy, list):
        for value in policy:
            yield from said_in(value, at=at)
    elif policy is not None:
        yield at, policy


def test_an_alert_goes_to_those_who_are_named(terraform: Terraform) -> None:
    terraform.given(settings=SETTINGS, alert_emails=["a@example.org", "b@example.org"])
    plan = terraform.planned("-target=google_monitoring_notification_channel.email")
    terraform.given()

    channels = plan.of_type("google_monitoring_notification_channel")
    assert {one.after["labels"]["email_address"] for one in channels} == {"a@example.org", "b@example.org"}


@pytest.mark.parametrize(("hosts", "ways"), [("", []), ("images.example.org", ["router", "router_nat"])])
def test_there_is_a_way_to_other_hosts_only_if_settings_name_such(
    terraform: Terraform, hosts: str, ways: list[str]
) -> None:
    terraform.given(settings=load_settings(project="my-project", https_hosts=hosts))
    plan = terraform.planned()
    terraform.given(settings=SETTINGS)

    found = [one.type.removeprefix("google_compute_") for one in plan.resources if "_router" in one.type]
    assert sorted(found) == ways


def test_a_fleet_that_only_python_callers_use_has_neither_topics_nor_a_bridge(terraform: Terraform) -> None:
    terraform.given(settings=load_settings(project="my-project", subscription=""))
    plan = terraform.planned()
    terraform.given(settings=SETTINGS)

    assert plan.of_type("google_pubsub_topic") == []
    assert "bridge" not in Machine(plan, "control").units
    alerts = {one.after["display_name"] for one in plan.of_type("google_monitoring_alert_policy")}
    assert alerts == {"Lowtide: the signal is missing (default)", "Lowtide: the signal is held, not measured (default)"}


def test_a_bridge_that_pulls_another_projects_subscription_alone_is_there_and_nothing_is_granted_to_it_here(
    terraform: Terraform,
) -> None:
    terraform.given(settings=load_settings(project="my-project", subscription="projects/other/subscriptions/s"))
    plan = terraform.planned()
    terraform.given(settings=SETTINGS)

    assert "bridge" in Machine(plan, "control").units
    assert plan.of_type("google_pubsub_subscription_iam_member") == []


def test_what_a_person_makes_here_is_not_committed() -> None:
    names = [
        "terraform.tfvars",
        "lowtide.auto.tfvars.json",
        "terraform.tfstate",
        ".terraform/x",
        "terraform.tfstate.backup",
        "lowtide.tfplan",
    ]
    paths = [f"deploy/terraform/{name}" for name in names]
    ignored = subprocess.run(
        ["git", "check-ignore", *paths], cwd=DEPLOY.parent, capture_output=True, text=True, check=False
    )

    assert ignored.stdout.split() == paths


def test_which_provider_was_chosen_can_be_committed() -> None:
    lock = subprocess.run(
        ["git", "check-ignore", "deploy/terraform/.terraform.lock.hcl"], cwd=DEPLOY.parent, check=False
    )

    assert lock.returncode == 1

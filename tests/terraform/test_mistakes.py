"""A small mistake in deploy/terraform is refused: by terraform and the provider's schema, or by `terraform test`."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.terraform.cli import Failed, Terraform

AGAINST_THE_SCHEMA = {
    "an argument that is misspelt": (
        ("network.tf", "private_ip_google_access =", "private_ip_google_acces ="),
        'An argument named "private_ip_google_acces" is not expected here',
    ),
    "an argument that is missing": (
        ("workers.tf", "  machine_type = var.worker_machine_type\n", ""),
        'The argument "machine_type" is required',
    ),
    "a value of another type": (
        ("workers.tf", "boot         = true", 'boot         = "first"'),
        'Inappropriate value for attribute "boot": a bool is required',
    ),
    "a text where a list is wanted": (
        ("network.tf", 'source_ranges = ["35.235.240.0/20"]', 'source_ranges = "35.235.240.0/20"'),
        'Inappropriate value for attribute "source_ranges": set of string required',
    ),
    "a block that is misspelt": (
        ("workers.tf", "  scheduling {", "  schedulling {"),
        'Blocks of type "schedulling" are not expected here',
    ),
    "a block within another that has none such": (
        ("workers.tf", "    preemption_notice_duration {", "    preemption_notice {"),
        'Blocks of type "preemption_notice" are not expected here',
    ),
    "a field of a metric that is misspelt": (
        ("autoscaler.tf", "        single_instance_assignment =", "        single_instance_assigment ="),
        'An argument named "single_instance_assigment" is not expected here',
    ),
    "a field of the scale-in control in the wrong block": (
        ("autoscaler.tf", "          fixed = scale", "          max_scaled_in = scale"),
        'An argument named "max_scaled_in" is not expected here',
    ),
    "a block that is missing": (
        ("pubsub.tf", '    ttl = ""\n', ""),
        'The argument "ttl" is required',
    ),
    "a block that is there twice": (
        ("workers.tf", "  disk {", "  scheduling {\n    preemptible = true\n  }\n\n  disk {"),
        'No more than 1 "scheduling" blocks are allowed',
    ),
    "what only Google sets": (
        ("control.tf", '  type = "pd-balanced"\n  size', '  self_link = "redis"\n  size'),
        "Value for unconfigurable attribute",
    ),
    "a kind of resource that there is not": (
        ("monitoring.tf", 'resource "google_monitoring_dashboard"', 'resource "google_monitoring_dashbord"'),
        'does not support resource type "google_monitoring_dashbord"',
    ),
    "a resource that is not declared": (
        ("autoscaler.tf", "group_manager.workers.id", "group_manager.worker.id"),
        "Reference to undeclared resource",
    ),
    "an attribute that a resource has not": (
        (
            "workers.tf",
            "google_compute_health_check.worker.id",
            "google_compute_health_check.worker.ident",
        ),
        'This object has no argument, nested block, or exported attribute named "ident"',
    ),
    "a variable that is not declared": (
        ("autoscaler.tf", "= var.policy.min_replicas", "= var.polity.min_replicas"),
        "Reference to undeclared input variable",
    ),
    "a part of the policy that there is not": (
        ("autoscaler.tf", "= var.policy.max_replicas", "= var.policy.most_replicas"),
        'This object does not have an attribute named "most_replicas"',
    ),
    "two resources that wait for each other": (
        ("network.tf", "  auto_create_subnetworks = false", "  description = google_compute_subnetwork.subnetwork.id"),
        "Cycle: ",
    ),
    "a template's value that nobody gives": (
        ("templates/container.service.tftpl", "Lowtide: ${name}", "Lowtide: ${title}"),
        'vars map does not contain key "title"',
    ),
    "a file that is not there": (
        ("monitoring.tf", "../dashboard.json", "../dashbord.json"),
        "no file exists at",
    ),
}
AGAINST_THE_TESTS = {
    "a public address": (
        (
            "workers.tf",
            "subnetwork = google_compute_subnetwork.subnetwork.id",
            "subnetwork = google_compute_subnetwork.subnetwork.id\n    access_config {}",
        ),
        "A worker has a public address.",
    ),
    "machines at full price": (
        ("workers.tf", 'provisioning_model          = "SPOT"', 'provisioning_model          = "STANDARD"'),
        "Workers are not Spot VMs.",
    ),
    "a disk that stays after a preemption": (
        ("workers.tf", '= "DELETE"', '= "STOP"'),
        "A preempted worker stays, and its disk is paid for.",
    ),
    "no notice of a preemption": (
        ("workers.tf", "      seconds = 120", "      seconds = 0"),
        "A preempted worker has no time to drain.",
    ),
    "no fuse": (
        ("workers.tf", "seconds = var.worker_max_run_s", "seconds = 10 * var.worker_max_run_s"),
        "Nothing ends a group that is held large.",
    ),
    "a group that evens out its zones": (
        ("workers.tf", 'instance_redistribution_type = "NONE"', 'instance_redistribution_type = "PROACTIVE"'),
        "VMs would be deleted to even out zones",
    ),
    "a worker that comes back as it was": (
        ("workers.tf", 'force_update_on_repair = "YES"', 'force_update_on_repair = "NO"'),
        "A preempted worker comes back with the template that it had.",
    ),
    "a group that is never empty": (
        ("autoscaler.tf", "= var.policy.min_replicas", "= max(1, var.policy.min_replicas)"),
        "The group is never empty.",
    ),
    "a group that is sized by its machines": (
        (
            "autoscaler.tf",
            '    dynamic "metric" {',
            '    cpu_utilization {\n      target = 0.8\n    }\n\n    dynamic "metric" {',
        ),
        "A group that is sized by its own machines is never empty.",
    ),
    "a signal that is left out": (
        ("autoscaler.tf", "for_each = var.policy.signals", "for_each = slice(var.policy.signals, 0, 1)"),
        "One of the two signals is missing.",
    ),
    "Pub/Sub's own dead letters": (
        (
            "pubsub.tf",
            "  expiration_policy {",
            "  dead_letter_policy {\n    max_delivery_attempts = 5\n  }\n\n  expiration_policy {",
        ),
        "Pub/Sub would count preemptions as failures.",
    ),
    "a memorystore that evicts": (
        ("memorystore.tf", '"noeviction"', '"volatile-lru"'),
        "Memorystore drops what nobody has fetched.",
    ),
    "a memorystore without a password": (
        ("memorystore.tf", "auth_enabled            = true", "auth_enabled            = false"),
        "Whoever is in the network reads and writes Memorystore.",
    ),
    "a password of another redis than memorystore": (
        (
            "memorystore.tf",
            "secret = google_secret_manager_secret.memorystore[0].secret_id",
            "secret = var.redis_password_secret",
        ),
        "VMs read the password of the Redis that is no more.",
    ),
    "a redis beside memorystore": (
        ("control.tf", '(name != "redis" || var.memorystore == null)', "true"),
        "There are two Redis servers.",
    ),
    "an authority that nobody is given": (
        ("boot.tf", "redis.server_ca_certs[*].cert", "[]"),
        "Nobody vouches for Memorystore.",
    ),
    "a redis that evicts": (
        ("control.tf", "--maxmemory-policy noeviction", "--maxmemory-policy volatile-lru"),
        "Redis forgets.",
    ),
    "a redis that is killed first": (
        ("control.tf", '"--oom-score-adj=-900",', ""),
        "Redis is killed when another takes its memory.",
    ),
    "a grace period that nobody warns of": (
        ("workers.tf", "local.stop_s + 5 <= 30", "local.stop_s + 5 <= 300"),
        "Missing expected failure",
    ),
    "a memory that nobody warns of": (
        ("control.tf", "e2-small = 2048", "e2-small = 20480"),
        "Missing expected failure",
    ),
    "a subscription that expires": (
        ("pubsub.tf", 'ttl = ""', 'ttl = "86400s"'),
        "A subscription loses what waits.",
    ),
}


@contextmanager
def mistaken(terraform: Terraform, file: str, right: str, wrong: str) -> Iterator[None]:
    """The root with one edit."""
    path = terraform.root / file
    text = path.read_text()
    assert text.count(right) >= 1, f"{file} has no {right!r}: the mistake would not be made"
    path.write_text(text.replace(right, wrong, 1))
    try:
        yield
    finally:
        path.write_text(text)


@pytest.mark.parametrize("mistake", AGAINST_THE_SCHEMA)
def test_a_mistake_against_the_schema_is_refused(terraform: Terraform, mistake: str) -> None:
    edit, said = AGAINST_THE_SCHEMA[mistake]
    with mistaken(terraform, *edit):
        answer = terraform.run("validate")
        if not isinstance(answer, Failed):  # templates are filled in by a plan
            answer = terraform.plan()

    assert isinstance(answer, Failed)
    assert said in answer.said


@pytest.mark.parametrize("mistake", AGAINST_THE_TESTS)
def test_a_mistake_that_no_schema_knows_is_refused_by_terraforms_tests(terraform: Terraform, mistake: str) -> None:
    edit, said = AGAINST_THE_TESTS[mistake]
    with mistaken(terraform, *edit):
        answer = terraform.run("test", "-filter=tests/fleet.tftest.hcl")

    assert isinstance(answer, Failed)
    assert said in answer.said


def test_the_root_without_a_mistake_is_refused_by_neither(terraform: Terraform) -> None:
    assert not isinstance(terraform.run("validate"), Failed)
    assert not isinstance(terraform.run("test", "-filter=tests/fleet.tftest.hcl"), Failed)

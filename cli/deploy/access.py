"""Whether the project's APIs are on, and whoever runs terraform may make what it makes."""

from collections.abc import Iterator, Mapping
from typing import Any

from lowtide.cli.checks.findings import Finding, failed, ok
from lowtide.cli.deploy.apis import GoogleApis
from lowtide.cli.deploy.errors import ApiRefused

SERVICES = (
    "artifactregistry",
    "cloudresourcemanager",
    "compute",
    "iam",
    "iap",
    "logging",
    "monitoring",
    "pubsub",
    "secretmanager",
    "storage",
)
"""What the fleet, terraform and this check call."""

PERMISSIONS = {
    "google_artifact_registry_repository_iam_member": ("artifactregistry.repositories.setIamPolicy",),
    "google_bigquery_dataset": ("bigquery.datasets.create",),
    "google_bigquery_table": ("bigquery.tables.create",),
    "google_bigquery_table_iam_member": ("bigquery.tables.setIamPolicy",),
    "google_billing_budget": (),  # of the billing account, not of the project
    "google_compute_address": ("compute.addresses.createInternal", "compute.subnetworks.use"),
    "google_compute_disk": ("compute.disks.create",),
    "google_compute_firewall": ("compute.firewalls.create", "compute.networks.updatePolicy"),
    "google_compute_health_check": ("compute.healthChecks.create",),
    "google_compute_instance": ("compute.instances.create", "iam.serviceAccounts.actAs"),
    "google_compute_network": ("compute.networks.create",),
    "google_compute_region_autoscaler": ("compute.autoscalers.create",),
    "google_compute_region_instance_group_manager": ("compute.instanceGroupManagers.create",),
    "google_compute_region_instance_template": ("compute.instanceTemplates.create",),
    "google_compute_router": ("compute.routers.create",),
    "google_compute_router_nat": ("compute.routers.update",),
    "google_compute_subnetwork": ("compute.subnetworks.create",),
    "google_monitoring_alert_policy": ("monitoring.alertPolicies.create",),
    "google_monitoring_dashboard": ("monitoring.dashboards.create",),
    "google_monitoring_metric_descriptor": ("monitoring.metricDescriptors.create",),
    "google_monitoring_notification_channel": ("monitoring.notificationChannels.create",),
    "google_project_iam_member": ("resourcemanager.projects.setIamPolicy",),
    "google_pubsub_subscription": ("pubsub.subscriptions.create", "pubsub.topics.attachSubscription"),
    "google_pubsub_subscription_iam_member": ("pubsub.subscriptions.setIamPolicy",),
    "google_pubsub_topic": ("pubsub.topics.create",),
    "google_pubsub_topic_iam_member": ("pubsub.topics.setIamPolicy",),
    "google_redis_instance": ("redis.instances.create",),
    "google_secret_manager_secret": ("secretmanager.secrets.create",),
    "google_secret_manager_secret_iam_member": ("secretmanager.secrets.setIamPolicy",),
    "google_secret_manager_secret_version": ("secretmanager.versions.add",),
    "google_service_account": ("iam.serviceAccounts.create",),
    "google_storage_bucket_iam_member": ("storage.buckets.setIamPolicy",),
    "google_storage_notification": ("storage.buckets.update",),
}
"""By type of resource, what making one takes: https://cloud.google.com/iam/docs/permissions-reference."""

OPTIONAL = frozenset(
    {
        "google_bigquery_dataset",
        "google_bigquery_table",
        "google_bigquery_table_iam_member",
        "google_billing_budget",
        "google_redis_instance",
        "google_secret_manager_secret",
        "google_secret_manager_secret_version",
        "google_storage_notification",
    }
)
"""What terraform.tfvars alone asks for, and few do: not looked at."""


def enabled(apis: GoogleApis, project: str) -> frozenset[str]:
    """Those of `SERVICES` that are on. Raises ApiRefused, also of a project that is not there."""
    names = [f"projects/{project}/services/{service}.googleapis.com" for service in SERVICES]
    said = apis.get("serviceusage", f"v1/projects/{project}/services:batchGet", names=names)
    if said is None:
        raise ApiRefused("there is no such project")
    on = [one["config"]["name"] for one in said.get("services", ()) if one["state"] == "ENABLED"]
    return frozenset(name.removesuffix(".googleapis.com") for name in on)


def services(on: frozenset[str], project: str) -> Iterator[Finding]:
    """Whether all of `SERVICES` are on."""
    off = [f"{service}.googleapis.com" for service in SERVICES if service not in on]
    if off:
        them = "it" if len(off) == 1 else "them"
        yield failed(
            "APIs",
            f"not enabled: {', '.join(off)}; what depends on {them} is not looked at",
            f"gcloud services enable --project={project} {' '.join(off)}",
        )
    else:
        yield ok("APIs", f"all {len(SERVICES)} are enabled")


def permissions(apis: GoogleApis, project: str, variables: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether these credentials may make every resource that the settings ask for."""
    wanted = sorted({one for kind in PERMISSIONS if _made(kind, variables) for one in PERMISSIONS[kind]})
    said = apis.post("cloudresourcemanager", f"v3/projects/{project}:testIamPermissions", {"permissions": wanted})
    lacks = sorted(set(wanted) - set((said or {}).get("permissions", ())))
    if lacks:
        yield failed(
            "Permissions",
            f"these credentials lack {', '.join(lacks)}",
            f"let an owner of {project} grant them, or run terraform as one who has them (roles/owner)",
        )
    else:
        yield ok("Permissions", f"all {len(wanted)} that terraform needs")


def _made(kind: str, variables: Mapping[str, Any]) -> bool:
    """Whether there will be such a resource; what terraform.tfvars alone decides counts as that, unless few want it."""
    if kind in OPTIONAL:
        return False
    if kind.startswith("google_compute_router"):
        return bool(variables["internet"])
    if kind.startswith("google_pubsub"):
        return bool(variables["pubsub"]["topics"] or variables["pubsub"]["subscriptions"])
    return bool(variables["worker_buckets"]) if kind == "google_storage_bucket_iam_member" else True

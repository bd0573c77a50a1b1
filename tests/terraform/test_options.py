"""What a person may ask for: uploads as requests, results in BigQuery, a budget, Memorystore."""

import json

import pytest

from lowtide.config import load_settings
from tests.terraform.cli import OPTIONS, PLACE, Plan, Terraform
from tests.terraform.test_root import ROLES


@pytest.fixture(scope="module")
def optional(terraform: Terraform) -> Plan:
    """All of it."""
    settings = load_settings(project="my-project", gs_buckets="pictures")
    terraform.given(settings=settings, **OPTIONS, memorystore={"memory_gb": 1}, alert_emails=["a@example.org"])
    return terraform.planned()


def test_options_need_one_role_more_and_that_is_of_one_table(optional: Plan) -> None:
    grants = {one.address: one.after for one in optional.resources if "_iam_" in one.type}

    assert {grant["role"] for grant in grants.values()} == {*ROLES, "roles/bigquery.dataEditor"}
    table = grants["google_bigquery_table_iam_member.results[0]"]
    assert (table["role"], table["dataset_id"], table["table_id"]) == (
        "roles/bigquery.dataEditor",
        "lowtide",
        "results",
    )
    assert table["member"] == "serviceAccount:service-google_project.number@gcp-sa-pubsub.iam.gserviceaccount.com"
    uploads = grants['google_pubsub_topic_iam_member.uploads["lowtide-requests"]']
    assert uploads["member"] == "google_storage_project_service_account.member"


def test_each_upload_to_a_bucket_goes_to_its_topic_as_the_bridge_reads_it(optional: Plan) -> None:
    notification = optional.only("google_storage_notification")

    assert (notification["bucket"], notification["payload_format"]) == ("pictures", "JSON_API_V1")
    assert notification["event_types"] == ["OBJECT_FINALIZE"]


def test_bigquery_keeps_whatever_a_result_says(optional: Plan) -> None:
    [subscription] = [
        one.after for one in optional.of_type("google_pubsub_subscription") if one.after["bigquery_config"]
    ]
    [config] = subscription["bigquery_config"]
    table = optional.only("google_bigquery_table")

    assert subscription["name"] == "lowtide-results-bigquery"
    assert config["table"] == "my-project.lowtide.results"
    # Neither the topic's schema nor the table's, or a field that a later release adds would hold everything up.
    assert not config["use_topic_schema"]
    assert not config["use_table_schema"]
    # What Pub/Sub writes with `write_metadata`, and the result as `data`.
    assert config["write_metadata"]
    assert {column["name"]: column["type"] for column in json.loads(table["schema"])} == {
        "subscription_name": "STRING",
        "message_id": "STRING",
        "publish_time": "TIMESTAMP",
        "attributes": "JSON",
        "data": "JSON",
    }


def test_a_budget_is_of_this_project_and_those_who_get_alerts_are_told(optional: Plan) -> None:
    [resource] = optional.of_type("google_billing_budget")
    budget = resource.after

    assert budget["budget_filter"][0]["projects"] == ["projects/google_project.number"]
    assert budget["amount"][0]["specified_amount"][0]["units"] == "100"
    assert {(rule["threshold_percent"], rule["spend_basis"]) for rule in budget["threshold_rules"]} == {
        (0.5, None),
        (0.9, None),
        (1, None),
        (1, "FORECASTED_SPEND"),
    }
    # Of one channel, whose name is known when it is there.
    assert resource.known_later["all_updates_rule"] == [{"monitoring_notification_channels": [True]}]


def test_memorystore_forgets_nothing_asks_for_a_password_and_takes_the_place_of_redis(optional: Plan) -> None:
    redis = optional.only("google_redis_instance")

    assert redis["redis_configs"] == {"maxmemory-policy": "noeviction"}
    assert (redis["auth_enabled"], redis["transit_encryption_mode"]) == (True, "SERVER_AUTHENTICATION")
    assert (redis["tier"], redis["memory_size_gb"], redis["location_id"]) == ("STANDARD_HA", 1, PLACE["zone"])
    assert redis["persistence_config"][0]["persistence_mode"] == "RDB"
    assert optional.of_type("google_compute_disk") == []

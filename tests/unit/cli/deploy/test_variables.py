"""What Terraform is told of the settings."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.cli.deploy.variables import OF_THE_DEPLOYMENT, variables_of
from lowtide.config import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LOWTIDE_{name.upper()}", raising=False)


def values(**settings: Any) -> dict[str, Any]:
    return variables_of(load_settings(**{"project": "my-project", **settings})).values


def notes(**settings: Any) -> tuple[str, ...]:
    return variables_of(load_settings(**{"project": "my-project", **settings})).notes


def test_the_policy_is_the_fleets() -> None:
    settings = load_settings(project="my-project", fleet_max=3, fleet_scale_in_max=1)

    assert variables_of(settings).values["policy"] == asdict(policy_of(settings))


def test_a_setting_that_was_set_is_told_and_a_default_is_not() -> None:
    told = values(models="digits,resnet101", grace_s=30)["settings"]

    assert told == {
        "LOWTIDE_GRACE_S": "30.0",
        "LOWTIDE_MODELS": "digits,resnet101",
        "LOWTIDE_PROJECT": "my-project",
    }


def test_neither_a_password_nor_what_is_of_this_machine_is_told() -> None:
    mine = {
        "redis_url": "redis://:hunter2@localhost:6379/0",
        "flower_basic_auth": "admin:hunter2",
        "flower_url": "http://127.0.0.1:5555",
        "health_port": 8080,
        "metadata_url": "none",
        "monitoring_host": "127.0.0.1:9000",
        "worker_slot": "1",
    }
    found = values(**mine)

    assert found["settings"] == {"LOWTIDE_PROJECT": "my-project"}
    assert "hunter2" not in json.dumps(found)
    assert set(mine) <= OF_THE_DEPLOYMENT <= Settings.model_fields.keys()


def test_pubsub_has_a_subscription_for_each_topic_that_something_is_read_of() -> None:
    assert values(subscription="urgent,lowtide-requests", reply_topics="mine")["pubsub"] == {
        "has_bridge": True,
        "topics": ["urgent", "lowtide-requests", "lowtide-dead-letters", "lowtide-results", "mine"],
        "subscriptions": {
            "urgent": "urgent",
            "lowtide-requests": "lowtide-requests",
            "lowtide-dead-letters": "lowtide-dead-letters",
            "lowtide-results": "lowtide-results",
        },
        "bridge_pulls": ["urgent", "lowtide-requests"],
        "bridge_publishes": ["lowtide-dead-letters", "lowtide-results", "mine"],
    }


def test_what_is_of_another_project_is_left_to_it_and_said() -> None:
    settings: dict[str, Any] = {"topic": "projects/q/topics/t", "results_topic": "projects/q/topics/r"}
    pubsub = values(**settings)["pubsub"]

    assert pubsub["topics"] == ["lowtide-dead-letters"]
    assert pubsub["subscriptions"]["lowtide-requests"] == "projects/q/topics/t"
    assert pubsub["bridge_publishes"] == ["lowtide-dead-letters"]
    assert [note.partition(" ")[0] for note in notes(**settings) if "of another project" in note] == [
        "projects/q/topics/r",
        "projects/q/topics/t",
    ]


def test_a_fleet_without_a_subscription_has_nothing_of_pubsub() -> None:
    assert values(subscription="")["pubsub"] == {
        "has_bridge": False,
        "topics": [],
        "subscriptions": {},
        "bridge_pulls": [],
        "bridge_publishes": [],
    }


def test_workers_may_read_the_buckets_that_are_named() -> None:
    found = values(models="m=p:M", gs_buckets="pictures", weights="m=gs://weights/a/b.pt")

    assert found["worker_buckets"] == ["pictures", "weights"]
    assert "LOWTIDE_GS_BUCKETS names no bucket: workers read none, only what travels in requests" in notes()
    assert values()["worker_buckets"] == []


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, False),
        ({"https_hosts": "images.example.org"}, True),
        ({"models": "resnet101"}, True),
        ({"models": "resnet101", "weights": "resnet101=IMAGENET1K_V2"}, True),
        ({"models": "resnet101", "weights": "resnet101=https://example.org/w.pt"}, True),
        ({"models": "resnet101", "weights": "resnet101=gs://weights/w.pt"}, False),
        ({"models": "resnet101", "weights": "resnet101=random"}, False),
        ({"models": "mine=package.module:Mine"}, False),
    ],
)
def test_workers_reach_hosts_beyond_google_only_where_settings_name_such(
    settings: dict[str, Any], needed: bool
) -> None:
    assert values(**settings)["internet"] is needed


def test_machines_that_run_also_while_nothing_waits_are_told_of() -> None:
    assert any(note.startswith("LOWTIDE_FLEET_MIN is 2: ") for note in notes(fleet_min=2))
    assert not any(note.startswith("LOWTIDE_FLEET_MIN") for note in notes())


def test_a_url_that_may_be_signed_is_told_of() -> None:
    signed = notes(models="m=p:M", weights="m=https://example.org/w.pt?signature=x")

    assert any(note.startswith("LOWTIDE_WEIGHTS has a URL with a query") for note in signed)
    assert not any("signature" in note for note in signed)


def test_without_a_project_there_is_nothing_to_make() -> None:
    with pytest.raises(SettingsError, match="LOWTIDE_PROJECT is not set"):
        variables_of(load_settings())


@pytest.mark.parametrize("settings", [{"fleet": "cafe\u0301"}, {"file_roots": "/data/cafe\u0301"}])
def test_what_terraform_would_write_in_another_form_is_refused(settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(SettingsError, match=f"LOWTIDE_{name.upper()}: .*NFC"):
        values(**settings)
    assert values(fleet="caf\u00e9")

"""The policy that the settings make."""

import re

import pytest

from lowtide.autoscaling.policy.decide import GroupState, SignalPoint, decide
from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.autoscaling.policy.policy import Policy, ScaleInControl
from lowtide.config import Settings, SettingsError, load_settings
from lowtide.config.metrics import GPU_SECONDS_OUTSTANDING, PUBSUB_UNDELIVERED

NOW = 1_780_000_000.0
OFFICE = {"name": "office", "min_required_replicas": 2, "cron": "30 8 * * Mon-Fri", "duration_s": 36_000}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LOWTIDE_{name.upper()}", raising=False)


def size_of(policy: Policy, *, gpu_seconds: float | None, messages: float | None) -> int:
    values = {GPU_SECONDS_OUTSTANDING.type: gpu_seconds, PUBSUB_UNDELIVERED: messages}
    histories = {name: [[SignalPoint(at=NOW, value=value)]] for name, value in values.items() if value is not None}
    return decide(policy, histories=histories, group=GroupState(), now=NOW).size


def test_the_work_outstanding_sizes_the_fleet_and_what_waits_in_pubsub_alone_wakes_it() -> None:
    policy = policy_of(load_settings(project="p", fleet_work_s=10))

    assert size_of(policy, gpu_seconds=35, messages=4_000) == 4
    assert size_of(policy, gpu_seconds=0, messages=0) == 0
    assert size_of(policy, gpu_seconds=None, messages=1) == 1
    assert size_of(policy, gpu_seconds=35, messages=7_000_000) == 7


def test_the_limits_and_the_stabilization_are_the_fleets() -> None:
    policy = policy_of(load_settings(fleet_min=1, fleet_max=3, fleet_stabilization_s=90))

    assert (policy.min_replicas, policy.max_replicas, policy.stabilization_period_s) == (1, 3, 90)


def test_pubsubs_count_is_of_the_most_urgent_subscription_whatever_project_it_is_in() -> None:
    policy = policy_of(load_settings(project="p", subscription="projects/q/subscriptions/urgent,later"))

    assert dict(policy.signals[1].selectors) == {
        "resource.type": "pubsub_subscription",
        "resource.labels.project_id": "q",
        "resource.labels.subscription_id": "urgent",
    }


@pytest.mark.parametrize("settings", [{}, {"project": "p", "fleet_messages": 0}, {"project": "p", "subscription": ""}])
def test_a_fleet_without_a_subscription_has_no_signal_that_would_be_missing_for_ever(settings: dict[str, str]) -> None:
    assert [signal.metric for signal in policy_of(load_settings(**settings)).signals] == [GPU_SECONDS_OUTSTANDING.type]


def test_schedules_and_the_scale_in_control_are_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given = load_settings(fleet_schedules=[{**OFFICE, "time_zone": "Europe/Berlin"}], fleet_scale_in_max=1)
    for name, text in given.environment().items():
        monkeypatch.setenv(name, text)  # as a child process gets it
    policy = policy_of(load_settings())

    [office] = policy.schedules
    assert (office.name, office.min_required_replicas, office.time_zone) == ("office", 2, "Europe/Berlin")
    assert policy.scale_in_control == ScaleInControl(time_window_s=600, max_scaled_in=1)
    assert policy_of(load_settings()) == policy


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("office", "LOWTIDE_FLEET_SCHEDULES: expected a JSON array of objects"),
        ('[{"name": "office"}]', "LOWTIDE_FLEET_SCHEDULES: 0.min_required_replicas: Field required"),
        (f"[{OFFICE | {'cron': 'often'}!s}]".replace("'", '"'), "schedule office: cron 'often'"),
        (f"[{OFFICE | {'duration_s': 60}!s}]".replace("'", '"'), "schedule office: duration_s is 60, less than 300"),
    ],
)
def test_a_schedule_that_compute_engine_would_refuse_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    monkeypatch.setenv("LOWTIDE_FLEET_SCHEDULES", text)

    with pytest.raises(SettingsError, match=re.escape(complaint)):
        policy_of(load_settings())

from pathlib import Path

import pytest

from lowtide.config import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LOWTIDE_{name.upper()}", raising=False)
    monkeypatch.delenv("LOWTIDE_CONFIG", raising=False)


def test_lists_and_pairs_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_MODELS", "digits, mine=package.module:Mine")
    monkeypatch.setenv("LOWTIDE_WEIGHTS", "mine=gs://bucket/w.pt")
    settings = load_settings()

    assert settings.model_names == ("digits", "mine")
    assert settings.weights == {"mine": "gs://bucket/w.pt"}


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "lowtide.toml"
    file.write_text('topic = "file"\nresults_topic = "file"\nproject = "file"\n')
    monkeypatch.setenv("LOWTIDE_CONFIG", str(file))
    monkeypatch.setenv("LOWTIDE_TOPIC", "environment")
    monkeypatch.setenv("LOWTIDE_PROJECT", "environment")
    settings = load_settings(project="argument")

    assert (settings.results_topic, settings.topic, settings.project) == ("file", "environment", "argument")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("LOWTIDE_THREADS", "many", "LOWTIDE_THREADS: .*integer"),
        ("LOWTIDE_GRACE_S", "-1", "LOWTIDE_GRACE_S: .*greater than 0"),
        ("LOWTIDE_WEIGHTS", "digits", "LOWTIDE_WEIGHTS: expected name=URI"),
        ("LOWTIDE_REDIS_URL", "localhost:6379", "LOWTIDE_REDIS_URL: expected redis://"),
        ("LOWTIDE_FLOWER_URL", "localhost:5555", "LOWTIDE_FLOWER_URL: expected http://host:port"),
        ("LOWTIDE_FLOWER_URL", "http://host:5555?a=b", "LOWTIDE_FLOWER_URL: expected http://host:port"),
        ("LOWTIDE_MODELS", " ", "LOWTIDE_MODELS names no model"),
        ("LOWTIDE_DEFAULT_MODEL", "other", "LOWTIDE_DEFAULT_MODEL names other"),
        ("LOWTIDE_HTTPS_PRIVATE_NETWORKS", "10.0.0.0/8,10.0.0.1/8", "LOWTIDE_HTTPS_PRIVATE_NETWORKS: .*host bits set"),
        ("LOWTIDE_CONFIG", "/no/such/file", "there is no such file"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=complaint):
        load_settings()


def test_names_become_paths_of_the_project() -> None:
    settings = load_settings(project="p")

    assert settings.topic_path("t") == "projects/p/topics/t"
    assert settings.topic_path("projects/q/topics/t") == "projects/q/topics/t"
    assert settings.subscription_path("s") == "projects/p/subscriptions/s"


def test_a_missing_project_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match="LOWTIDE_PROJECT"):
        load_settings().topic_path("t")


def test_nothing_listens_beyond_loopback_and_nothing_is_allowed_unless_it_is_set() -> None:
    settings = load_settings()
    addresses = {name: getattr(settings, name) for name in Settings.model_fields if name.endswith("_address")}

    assert set(addresses.values()) == {"127.0.0.1"}
    assert settings.health_port == 0
    assert settings.flower_read_only
    lists = (settings.https_hosts, settings.https_private_networks, settings.file_roots, settings.reply_topics)
    assert lists == ((), (), (), ())


@pytest.mark.parametrize("wrong", ["lowtide-requests,projects/p/subs", "projects/p", "projects/p/topics/t"])
def test_a_subscription_that_is_no_name_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_SUBSCRIPTION", wrong)
    with pytest.raises(SettingsError, match=r"^LOWTIDE_SUBSCRIPTION: expected .*projects/PROJECT/subscriptions/NAME"):
        load_settings()


def test_no_subscription_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_SUBSCRIPTION", "")
    assert load_settings().subscription == ()


@pytest.mark.parametrize("wrong", ["me:hunter2€", "hunter2", "me:fine,hunter2"])
def test_a_login_that_flower_could_not_compare_is_refused_and_not_quoted(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_FLOWER_BASIC_AUTH", wrong)
    with pytest.raises(SettingsError, match=r"^LOWTIDE_FLOWER_BASIC_AUTH: expected user:password") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)

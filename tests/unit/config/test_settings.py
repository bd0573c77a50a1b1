import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowtide.config import Process, Settings, SettingsError, load_settings, pubsub_emulator, read_settings
from lowtide.config.used_by import used_by


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LOWTIDE_{name.upper()}", raising=False)
    monkeypatch.delenv("LOWTIDE_CONFIG", raising=False)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        file = tmp_path / "lowtide.toml"
        file.write_bytes(content)
        monkeypatch.setenv("LOWTIDE_CONFIG", str(file))
        return file

    return write


def test_lists_and_pairs_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_MODELS", "digits, mine=package.module:Mine")
    monkeypatch.setenv("LOWTIDE_WEIGHTS", "mine=gs://bucket/w.pt")
    settings = load_settings()

    assert settings.model_names == ("digits", "mine")
    assert settings.weights == {"mine": "gs://bucket/w.pt"}


def test_a_json_array_or_object_holds_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_FILE_ROOTS", '["/data/a,b", "/data/ c "]')
    monkeypatch.setenv("LOWTIDE_WEIGHTS", '{"digits": "file:///a,b=c.pt"}')
    settings = load_settings()

    assert settings.file_roots == ("/data/a,b", "/data/ c ")
    assert settings.weights == {"digits": "file:///a,b=c.pt"}


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    monkeypatch: pytest.MonkeyPatch, config: Callable[[bytes], Path]
) -> None:
    config(b'topic = "file"\nresults_topic = "file"\nproject = "file"\n')
    monkeypatch.setenv("LOWTIDE_TOPIC", "environment")
    monkeypatch.setenv("LOWTIDE_PROJECT", "environment")
    settings = load_settings(project="argument")

    assert (settings.results_topic, settings.topic, settings.project) == ("file", "environment", "argument")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("LOWTIDE_THREADS", "many", "LOWTIDE_THREADS: .*integer.*'many'"),
        ("LOWTIDE_GRACE_S", "-1", "LOWTIDE_GRACE_S: .*greater than 0"),
        ("LOWTIDE_GRACE_S", "20s", "LOWTIDE_GRACE_S: .*'20s': write a plain number of seconds, without a unit"),
        ("LOWTIDE_GRACE_S", "inf", "LOWTIDE_GRACE_S: .*finite"),
        ("LOWTIDE_CONTENT_MAX_BYTES", "64MB", "LOWTIDE_CONTENT_MAX_BYTES: .*'64MB': write a plain number of bytes"),
        ("LOWTIDE_CONTENT_MAX_BYTES", "1e6", "without .*an exponent"),
        ("LOWTIDE_CONTENT_MAX_BYTES", "64,000", "without .*a comma"),
        ("LOWTIDE_FLOWER_READ_ONLY", "maybe", "LOWTIDE_FLOWER_READ_ONLY: .*boolean.*'maybe'"),
        ("LOWTIDE_LOG_LEVEL", "verbose", "LOWTIDE_LOG_LEVEL: expected one of DEBUG, .*'verbose'"),
        ("LOWTIDE_PROJECT", "my project", "LOWTIDE_PROJECT: expected a project's id.*'my project'"),
        ("LOWTIDE_TOPIC", "topics/a", "LOWTIDE_TOPIC: expected a topic's name, or projects/PROJECT/topics/NAME"),
        ("LOWTIDE_WEIGHTS", "digits", "LOWTIDE_WEIGHTS: expected name=URI"),
        ("LOWTIDE_REDIS_URL", "localhost:6379", "LOWTIDE_REDIS_URL: expected redis://"),
        ("LOWTIDE_FLOWER_URL", "localhost:5555", "LOWTIDE_FLOWER_URL: expected http://host:port"),
        ("LOWTIDE_FLOWER_URL", "http://host:5555?a=b", "LOWTIDE_FLOWER_URL: expected http://host:port"),
        ("LOWTIDE_FLOWER_URL", "http://host:port", "LOWTIDE_FLOWER_URL: expected http://host:port"),
        ("LOWTIDE_MODELS", " ", "LOWTIDE_MODELS names no model"),
        ("LOWTIDE_MODELS", "cats,cats.high=cats:Urgent", "LOWTIDE_MODELS: .*end with .high or .topic.*'cats.high'"),
        ("LOWTIDE_MODELS", '["digits"', "LOWTIDE_MODELS: begins with .* no JSON array"),
        ("LOWTIDE_DEFAULT_MODEL", "other", "LOWTIDE_DEFAULT_MODEL names other"),
        ("LOWTIDE_HTTPS_PRIVATE_NETWORKS", "10.0.0.0/8,10.0.0.1/8", "LOWTIDE_HTTPS_PRIVATE_NETWORKS: .*host bits set"),
        ("LOWTIDE_HTTPS_HOSTS", "https://example.org", "LOWTIDE_HTTPS_HOSTS: expected hosts .*without https://"),
        ("LOWTIDE_GS_BUCKETS", "gs://bucket", "LOWTIDE_GS_BUCKETS: expected names of buckets, without gs://"),
        ("LOWTIDE_FILE_ROOTS", "file:///data", "LOWTIDE_FILE_ROOTS: expected folders .*without file://"),
        (
            "LOWTIDE_MONITORING_HOST",
            "http://localhost:1",
            "LOWTIDE_MONITORING_HOST: expected host:port.*leave out http",
        ),
        ("LOWTIDE_MONITORING_HOST", "localhost", "LOWTIDE_MONITORING_HOST: expected host:port.*the port is missing"),
        ("LOWTIDE_HEALTH_ADDRESS", "*", "LOWTIDE_HEALTH_ADDRESS: .*write 0.0.0.0"),
        ("LOWTIDE_HEALTH_ADDRESS", "[::1]", "LOWTIDE_HEALTH_ADDRESS: .*without brackets, ::1"),
        ("LOWTIDE_HEALTH_ADDRESS", "http://0.0.0.0", "LOWTIDE_HEALTH_ADDRESS: .*without http://"),
        ("LOWTIDE_PREFIX", "caf\udce9:", "LOWTIDE_PREFIX: holds bytes that are not UTF-8"),
        ("LOWTIDE_CONFIG", "/no/such/file", "there is no such file"),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_wanted_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=complaint):
        load_settings()


@pytest.mark.parametrize("around", ['"{}"', "'{}'", "{}\r", " {}\t", "\ufeff{}", '"{} "\r\n'])
def test_what_files_of_variables_leave_around_a_value_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    given = {
        "redis_url": "redis://host:6379/0",
        "prefix": "fleet1:",
        "project": "my-project",
        "threads": "8",
        "flower_read_only": "no",
        "models": "digits,resnet101",
        "weights": "digits=gs://bucket/w.pt",
        "health_address": "::1",
        "fleet_schedules": "[]",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"LOWTIDE_{name.upper()}", around.format(value))

    assert load_settings() == load_settings(**given)
    assert load_settings().prefix == "fleet1:"


def test_an_entry_of_a_list_may_have_quotation_marks_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_MODELS", '"digits", "resnet101"')
    assert load_settings().models == ("digits", "resnet101")


@pytest.mark.parametrize("empty", ["", " ", '""', "\r"])
def test_an_empty_value_is_as_good_as_unset(monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    for name in Settings.model_fields.keys() - {"models", "subscription", "gs_buckets"}:
        monkeypatch.setenv(f"LOWTIDE_{name.upper()}", empty)

    assert load_settings() == Settings()
    assert "redis_url" not in load_settings().model_fields_set


@pytest.mark.parametrize("name", ["flower_port", "metrics_port", "health_port"])
@pytest.mark.parametrize("link", ["tcp://10.0.0.7:5555", "udp://[fd00::7]:5555", "TCP://10.0.0.7:80"])
def test_the_link_that_kubernetes_makes_of_a_service_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, link: str
) -> None:
    monkeypatch.setenv(f"LOWTIDE_{name.upper()}", link)

    assert load_settings() == Settings()


@pytest.mark.parametrize("process", Process)
def test_what_a_process_does_not_use_ends_it_only_when_it_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, process: Process
) -> None:
    wrong = {
        "LOWTIDE_FLOWER_PORT": "many",
        "LOWTIDE_METRICS_PORT": "many",
        "LOWTIDE_DEVICE": "\udce9",
        "LOWTIDE_REPLY_TOPICS": "a b",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    users = {"LOWTIDE_FLOWER_PORT": Process.FLOWER, "LOWTIDE_METRICS_PORT": Process.AUTOSCALE}
    users |= {"LOWTIDE_DEVICE": Process.WORKER, "LOWTIDE_REPLY_TOPICS": Process.BRIDGE}
    for name in [name for name, user in users.items() if user is process]:
        with pytest.raises(SettingsError, match=rf"^{name}: [^\n]*$"):
            load_settings(process)
        monkeypatch.delenv(name)
    settings = load_settings(process)

    asked_for = next(name for name, user in users.items() if user is not process)
    with pytest.raises(SettingsError, match=f"^{asked_for}: "):
        getattr(settings, asked_for.removeprefix("LOWTIDE_").lower())
    with pytest.raises(SettingsError):
        load_settings()


WORKERS = {
    "batch_deadline_s",
    "batch_max_requests",
    "batch_wait_s",
    "content_max_bytes",
    "decode_memory_bytes",
    "decode_threads",
    "device",
    "fetch_timeout_s",
    "file_roots",
    "gs_buckets",
    "https_hosts",
    "https_private_networks",
    "image_max_pixels",
    "threads",
    "weights",
    "worker_slot",
}


def test_every_setting_is_used_by_somebody() -> None:
    workers = {name for name in Settings.model_fields if used_by(name) == {Process.WORKER}}
    assert workers == WORKERS, "a setting is the worker's unless used_by.py says else: is this one?"
    assert {name for name in Settings.model_fields if Process.CALLER in used_by(name)} == {
        "redis_url",
        "prefix",
        "callback_queue",
    }


def test_settings_that_contradict_each_other_are_named_to_who_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_FLEET_MIN", "20")
    monkeypatch.setenv("LOWTIDE_WEIGHTS", "other=random")

    assert load_settings(Process.BRIDGE).models == ("digits",)
    with pytest.raises(SettingsError, match=r"LOWTIDE_FLEET_MIN \(20\) is more than LOWTIDE_FLEET_MAX \(10\)"):
        load_settings(Process.AUTOSCALE)
    with pytest.raises(SettingsError, match="LOWTIDE_WEIGHTS names other, which LOWTIDE_MODELS does not serve"):
        load_settings(Process.WORKER)


def test_a_child_process_reads_the_same_whatever_else_it_inherits(
    monkeypatch: pytest.MonkeyPatch, config: Callable[[bytes], Path]
) -> None:
    config(b'topic = "file"\n')
    monkeypatch.setenv("LOWTIDE_PROJECT", "inherited")
    given: dict[str, Any] = {
        "project": None,
        "models": ("digits", "mine=package.module:Class"),
        "weights": {"digits": "file:///a,b/w=1.pt", "mine": "random"},
        "file_roots": ("/a,b", "/c\n", "/caf\udce9", '/"d"'),
        "flower_basic_auth": ("me:a,b ", "you:c:d"),
    }
    before = load_settings(**given)
    code = "import json; from lowtide.config import load_settings; print(repr(load_settings().model_dump()))"
    env = {**os.environ, **before.environment()}
    child = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    assert child.stdout.strip() == repr(before.model_dump())
    assert {name: getattr(before, name) for name in given} == given


TEXTS = 'project = "p"\r\nmodels = ["digits"]\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_of_windows_is_read(config: Callable[[bytes], Path], encoding: str) -> None:
    config(TEXTS.encode(encoding))
    assert load_settings().project == "p"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (TEXTS.encode("utf-16-le"), "lowtide.toml: not UTF-8: it seems to be UTF-16 without"),
        (b'project = "p"\n# caf\xe9\n', "lowtide.toml, line 2: not UTF-8: save it as UTF-8"),
        (b"project = my-project\n", r"lowtide.toml is not TOML: .*line 1.*quotation marks"),
        (b"a = 1\na = 2\n", r"lowtide.toml is not TOML: .*line 2"),
        (b'projct = "p"\n', "lowtide.toml: projct is no setting: did you mean project"),
        (b'LOWTIDE_PROJECT = "p"\n', "lowtide.toml: LOWTIDE_PROJECT is no setting: did you mean project"),
        (b"[redis]\nurl = 1\n", "lowtide.toml: redis is no setting"),
        (b"threads = true\n", r"^LOWTIDE_THREADS \(threads in .*lowtide.toml\): true and false"),
        (b"threads = []\n", r"^LOWTIDE_THREADS \(threads in .*lowtide.toml\): .*integer"),
        (b"models = [1]\n", r"^LOWTIDE_MODELS \(models in .*lowtide.toml\): 0: .*string"),
        (b"project = 2024-01-01\n", r"^LOWTIDE_PROJECT \(project in .*lowtide.toml\): .*string"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_place(
    config: Callable[[bytes], Path], content: bytes, complaint: str
) -> None:
    config(content)
    with pytest.raises(SettingsError, match=complaint) as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_a_folder_is_no_file_of_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOWTIDE_CONFIG", f'"{tmp_path}"\r')
    with pytest.raises(SettingsError, match=f"^LOWTIDE_CONFIG: {tmp_path} is a folder"):
        load_settings()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("http://localhost:8085", "leave out http://"),
        ("localhost", "the port is missing"),
        ("::1:8085", "goes into brackets"),
        ("[::1]", "the port is missing"),
        ("localhost:port", "a port is a number"),
        ("localhost:70000", "a port is a number"),
        (":8085", "the host is missing"),
    ],
)
def test_where_pubsub_is_must_be_host_and_port(monkeypatch: pytest.MonkeyPatch, wrong: str, complaint: str) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", wrong)
    with pytest.raises(SettingsError, match=f"^PUBSUB_EMULATOR_HOST: expected host:port.*{complaint}"):
        pubsub_emulator()


@pytest.mark.parametrize("right", ["localhost:8085", "[::1]:8085", "127.0.0.1:1", "pub_sub.svc.cluster.local:65535"])
def test_where_pubsub_is_may_be_a_name_or_an_address(monkeypatch: pytest.MonkeyPatch, right: str) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f" {right}\r")
    assert pubsub_emulator() == right


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


@pytest.mark.parametrize(
    "wrong",
    [
        "me:hunter2€",
        "hunter2",
        "me:fine,hunter2",
        "me:hunter2,x:7",
        "me:hunter2,",
        "me:hunter2 ",
        '"me:hunter2"',
        "me:hunter2\r",
        '["me:hunter2',
        '["me:fine","hunter2"]',
        '["me:hunter2\\n"]',
    ],
)
def test_a_login_that_could_be_another_than_the_one_that_opens_is_refused_and_not_quoted(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWTIDE_FLOWER_BASIC_AUTH", wrong)
    with pytest.raises(SettingsError, match=r"^LOWTIDE_FLOWER_BASIC_AUTH: .*\[\"") as refused:
        load_settings()
    assert "hunter2" not in f"{refused.value} {refused.value.__cause__}"


def test_logins_of_an_array_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = ("me:a,b:7", "you:ab ", "they:c,", "we:")
    monkeypatch.setenv("LOWTIDE_FLOWER_BASIC_AUTH", json.dumps(logins))
    assert load_settings().flower_basic_auth == logins


def test_a_setting_that_is_wrong_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_THREADS", "many")
    settings = read_settings(project="p")

    assert settings.environment() == {"LOWTIDE_CONFIG": "", "LOWTIDE_PROJECT": "p"}
    assert settings.wrong.keys() == {"threads"}


@pytest.mark.parametrize("name", ["redis_url", "prefix", "project", "topic", "models", "worker_slot", "callback_queue"])
@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{}${{HOST}}", "holds a variable"),
        ("{}$(HOST)", "holds a variable"),
        ("{} # the usual one", "holds what seems to be a comment"),
    ],
)
def test_what_a_file_of_variables_leaves_in_a_value_is_refused(
    name: str, written: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LOWTIDE_{name.upper()}", written.format("redis://h"))

    with pytest.raises(SettingsError, match=f"^LOWTIDE_{name.upper()}: {words}") as raised:
        load_settings()
    assert "HOST" not in str(raised.value), "it may be part of a password"


def test_a_folder_may_be_called_as_its_owner_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_FILE_ROOTS", "/data/${a} # b")

    assert load_settings().file_roots == ("/data/${a} # b",)


@pytest.mark.parametrize("prefix", ["a*:", "a?", "[ab]", "a b", "a\\b", "^", "a\nb", "\u200b"])
def test_a_prefix_that_redis_would_take_for_a_pattern_is_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_PREFIX", prefix)

    with pytest.raises(SettingsError, match="^LOWTIDE_PREFIX: expected a word such as fleet1:"):
        load_settings()


@pytest.mark.parametrize("prefix", ["fleet1:", "a/b.c-d_", "{tag}", "größe:", "#1"])
def test_a_prefix_may_be_any_other_word(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_PREFIX", prefix)

    assert load_settings().prefix == prefix

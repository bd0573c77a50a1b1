from collections.abc import Iterator

import pytest
from google.cloud import pubsub_v1
from google.protobuf.duration_pb2 import Duration
from redis import Redis

from lowtide.bridge.pubsub.create import create_missing
from lowtide.cli.checks import checks
from lowtide.cli.checks import redis as check_redis
from lowtide.cli.checks import settings as check_settings
from lowtide.cli.checks.findings import Finding, Verdict
from lowtide.cli.commands.doctor import examine
from lowtide.config import Settings, read_settings
from lowtide.local.process import free_port
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.moves import Moves
from lowtide.tasks.redis.keys import Keys


@pytest.fixture
def redis(redis: Redis) -> Iterator[Redis]:
    yield redis
    redis.config_set("appendonly", "yes")
    redis.config_set("maxmemory-policy", "noeviction")


def of(findings: list[Finding], verdict: Verdict) -> str:
    return "\n".join(f"{finding.message} → {finding.remedy}" for finding in findings if finding.verdict is verdict)


def test_a_redis_set_up_as_we_need_it_is_healthy_even_one_that_refuses_config(redis: Redis, redis_url: str) -> None:
    redis.acl_setuser(
        "guest",
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
        commands=["-config"],
    )
    findings = list(check_redis.redis(Settings(redis_url=redis_url.replace("redis://", "redis://guest:secret@"))))
    redis.acl_deluser("guest")

    assert {finding.verdict for finding in findings} == {Verdict.OK}
    assert len(findings) == 3


def test_a_redis_that_forgets_is_told_of(redis: Redis, redis_url: str) -> None:
    redis.config_set("appendonly", "no")
    redis.config_set("maxmemory-policy", "allkeys-lru")
    findings = list(check_redis.redis(Settings(redis_url=redis_url)))

    assert "CONFIG SET appendonly yes" in of(findings, Verdict.WARNING)
    [failed] = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    assert "maxmemory-policy allkeys-lru" in failed.message
    assert failed.remedy.startswith("CONFIG SET maxmemory-policy noeviction; of Memorystore: gcloud redis")


def test_tasks_that_can_not_go_back_are_told_of_with_the_key_that_is_in_their_way(redis: Redis, redis_url: str) -> None:
    Heartbeat(redis, Keys(""), kind="worker", name="0a").beat()
    redis.hset(Keys("").held("0a"), mapping={tag: f"lowtide.m\n\n{tag}" for tag in "ab"})
    redis.set("lowtide.m", "of another type")
    Moves(redis, Keys("")).sweep("0a", float(redis.zscore(Keys("").workers, "0a") or 0))
    findings = list(check_redis.redis(Settings(redis_url=redis_url)))

    assert "2 tasks can't go back to their queue: something that is no list is called 'lowtide.m'" in of(
        findings, Verdict.FAILED
    )


def test_a_redis_that_is_away_is_told_of_with_its_address_and_without_its_password() -> None:
    port = free_port()
    findings = list(check_redis.redis(Settings(redis_url=f"redis://me:secret@127.0.0.1:{port}/0")))

    assert f"at 127.0.0.1:{port}: not reachable" in of(findings, Verdict.FAILED)
    assert "LOWTIDE_REDIS_URL" in of(findings, Verdict.FAILED)
    assert "secret" not in of(findings, Verdict.FAILED)


def test_topics_that_are_missing_need_the_command_that_makes_them(pubsub_host: str, project: str) -> None:
    settings = Settings(project=project)
    before = list(checks.pubsub(settings))
    create_missing(settings)
    after = list(checks.pubsub(settings))

    assert "lowtide bridge --create" in of(before, Verdict.FAILED)
    assert {finding.verdict for finding in after} == {Verdict.OK}
    assert pubsub_host in of(after, Verdict.OK)


def test_a_subscription_that_would_lose_messages_is_told_of(pubsub_host: str, project: str) -> None:
    settings = Settings(project=project)
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    for topic in ("lowtide-requests", "other"):
        publisher.create_topic(name=settings.topic_path(topic))
    subscriber.create_subscription(
        request={
            "name": settings.subscription_path("lowtide-requests"),
            "topic": settings.topic_path("lowtide-requests"),
            "message_retention_duration": Duration(seconds=3600),
            "expiration_policy": {"ttl": Duration(seconds=30 * 86400)},
            "dead_letter_policy": {"dead_letter_topic": settings.topic_path("other")},
        }
    )
    subscriber.close()
    publisher.stop()
    publisher.transport.close()
    create_missing(settings)
    findings = list(checks.pubsub(settings))

    assert "dead-letter policy" in of(findings, Verdict.FAILED)
    assert "expires" in of(findings, Verdict.WARNING)
    assert "less than 7 days" in of(findings, Verdict.WARNING)


def test_a_pubsub_that_is_away_is_no_reason_to_create_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowtide.bridge.pubsub.create.CALL_S", 0.5)
    host = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    said = of(list(checks.pubsub(Settings(project="p"))), Verdict.FAILED)

    assert f"{host} (PUBSUB_EMULATOR_HOST)" in said
    assert "--create" not in said


def test_without_credentials_it_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for variable in ("PUBSUB_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # else the library looks for a metadata server

    assert "GOOGLE_APPLICATION_CREDENTIALS" in of(list(checks.pubsub(Settings(project="p"))), Verdict.FAILED)


@pytest.mark.parametrize("project", [None, "p"])
def test_a_fleet_of_python_callers_needs_neither_pubsub_nor_a_bridge(redis_url: str, project: str | None) -> None:
    settings = Settings(redis_url=redis_url, project=project, subscription=())
    findings = [*checks.pubsub(settings), *checks.fleet(settings)]

    assert "only Python callers" in of(findings, Verdict.OK)
    assert "bridge" not in of(findings, Verdict.WARNING)


def test_a_worker_whose_queue_was_cancelled_is_told_of(redis: Redis, redis_url: str) -> None:
    settings = Settings(redis_url=redis_url, subscription=())
    status = {"deaf_to": ["lowtide.digits"]}
    Heartbeat(redis, Keys.of(settings), kind="worker", name="w", status=lambda: status, models=["digits"]).beat()

    assert "w does not listen to lowtide.digits" in of(list(checks.fleet(settings)), Verdict.WARNING)
    status.clear()
    Heartbeat(redis, Keys.of(settings), kind="worker", name="w", status=lambda: status, models=["digits"]).beat()
    assert not of(list(checks.fleet(settings)), Verdict.WARNING)


def test_a_suspect_worker_is_told_of_with_its_reason(redis: Redis, redis_url: str) -> None:
    settings = Settings(redis_url=redis_url, subscription=())
    status = {"suspect": "9 of the last 9 requests of digits failed here with forbidden"}
    Heartbeat(redis, Keys.of(settings), kind="worker", name="w", status=lambda: status, models=["digits"]).beat()

    said = of(list(checks.fleet(settings)), Verdict.WARNING)
    assert "w is suspect" in said
    assert "failed here with forbidden" in said


def test_a_model_that_does_not_exist_is_told_of() -> None:
    findings = list(checks.models(Settings(models="resnet1O1")))

    assert "did you mean resnet101" in of(findings, Verdict.FAILED)


def test_a_variable_that_is_no_setting_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_MODEL", "digits")

    assert "LOWTIDE_MODEL is no setting → did you mean LOWTIDE_MODELS?" in of(
        list(check_settings.environment()), Verdict.WARNING
    )


@pytest.mark.parametrize("written", ["export {}", "\ufeff{}", "{} ", " {}", "{}\r", "env:{}"])
def test_what_a_file_of_variables_leaves_around_a_name_is_told_of(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name := written.format("LOWTIDE_PREFIX"), "a:")
    monkeypatch.setenv("MY_LOWTIDE_PREFIX", "a:")  # another's

    told = of(list(check_settings.environment()), Verdict.WARNING)
    assert f"{name!a} is no setting → did you mean LOWTIDE_PREFIX?" in told
    assert "MY_LOWTIDE" not in told


def test_what_kubernetes_makes_of_services_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOWTIDE_TEST_REQUIRE", raising=False)  # no setting either, and told of as that
    for service, port in (("LOWTIDE_FLOWER", 5555), ("LOWTIDE", 8080), ("LOWTIDE_REDIS", 6379)):
        link = f"{service}_PORT_{port}_TCP"
        for name in (f"{service}_SERVICE_HOST", f"{link}_ADDR"):
            monkeypatch.setenv(name, "10.0.0.7")
        for name in (f"{service}_SERVICE_PORT", f"{service}_SERVICE_PORT_HTTP", f"{link}_PORT"):
            monkeypatch.setenv(name, str(port))
        monkeypatch.setenv(f"{link}_PROTO", "tcp")
        for name in (link, f"{service}_PORT"):
            monkeypatch.setenv(name, f"tcp://10.0.0.7:{port}")
    monkeypatch.setenv("LOWTIDE_FLOWER_PORT", "5556")  # whoever sets it himself
    (finding,) = check_settings.environment()

    assert finding.verdict is Verdict.WARNING
    assert (
        "23 variables are what Kubernetes makes of Services (lowtide, lowtide-flower, lowtide-redis)" in finding.message
    )
    assert "enableServiceLinks: false" in finding.remedy


def test_a_wrong_setting_is_told_of_with_who_uses_it_and_ends_no_other_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWTIDE_METRICS_PORT", "many")
    monkeypatch.setenv("LOWTIDE_FLOWER_ADDRESS", "0.0.0.0")
    monkeypatch.setenv("LOWTIDE_REDIS_URL", "redis://:hunter2#@h")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "http://localhost:8085")
    said = of(list(examine(read_settings())), Verdict.FAILED)

    assert "LOWTIDE_METRICS_PORT: Input should be a valid integer" in said
    assert "used by: autoscale" in said
    assert "used by: every process" in said
    assert "LOWTIDE_FLOWER_BASIC_AUTH: Flower would be open to the network" in said
    assert "PUBSUB_EMULATOR_HOST: expected host:port" in said
    assert "hunter2" not in said

"""What Terraform plans for Google Cloud answers a request: topics and subscriptions as planned, and bridge, worker and
Redis with the settings and arguments that their VMs give them.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud import pubsub_v1
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1.types import ExpirationPolicy, Subscription

from lowtide.cli.deploy.variables import variables_of
from lowtide.config import load_settings
from lowtide.local.process import ChildProcess
from lowtide.local.redis import find_redis
from tests.fleet import LOWTIDE, READY_S, Fleet
from tests.ports import steady_port
from tests.terraform.cli import Plan, Terraform
from tests.terraform.machine import Machine
from tests.terraform.provider import Provider, serving

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "hunter2"
REFUSED_BY_MEMORYSTORE = (
    *(
        "ACL",
        "BGREWRITEAOF",
        "BGSAVE",
        "CLIENT",
        "CLUSTER",
        "COMMAND",
        "CONFIG",
        "DEBUG",
        "LASTSAVE",
        "MIGRATE",
        "MONITOR",
    ),
    *("OBJECT", "REPLICAOF", "SAVE", "SHUTDOWN"),
)
"""By https://cloud.google.com/memorystore/docs/redis/product-constraints. From version 6 on it lets parts of CLIENT and
COMMAND pass (docs/redis/supported-commands): here none, which is the worst."""

pytestmark = pytest.mark.timeout(3 * READY_S)


@pytest.fixture
def plan(terraform_here, project, tmp_path) -> Plan:
    with serving(Provider()) as environment:
        terraform = Terraform(tmp_path / "deploy", environment)
        terraform.given(settings=load_settings(project=project, models="digits", default_model="digits"))
        return terraform.planned()


@pytest.fixture(params=["control VM", "Memorystore"])
def redis_port(request, plan: Plan, redis_server, tmp_path) -> Iterator[int]:
    """A Redis as the control VM starts it; also one that refuses what Memorystore refuses."""
    command = Machine(plan, "control").docker_run("redis").command
    refused = REFUSED_BY_MEMORYSTORE if request.param == "Memorystore" else ()
    lines = [f"requirepass {PASSWORD}", *(f'rename-command {name} ""' for name in refused)]
    (tmp_path / "redis.conf").write_text("\n".join(lines) + "\n")
    here = {"redis-server": find_redis(), "/redis.conf": f"{tmp_path}/redis.conf", "/data": str(tmp_path)}
    port = steady_port()
    arguments = [*(here.get(word, word) for word in command), "--port", str(port)]
    server = ChildProcess("redis", arguments, env={}, log_path=tmp_path / "redis.log")
    server.start()
    yield port
    server.stop()


@pytest.fixture
def planned_pubsub(plan: Plan, local_pubsub, project, monkeypatch) -> None:
    """A Pub/Sub that has what the plan says, and nothing else."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", local_pubsub.host)
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    for topic in plan.of_type("google_pubsub_topic"):
        publisher.create_topic(name=publisher.topic_path(project, topic.after["name"]))
    topics = variables_of(load_settings(project=project)).values["pubsub"]["subscriptions"]
    for subscription in plan.of_type("google_pubsub_subscription"):
        name = subscription.after["name"]
        subscriber.create_subscription(
            Subscription(
                name=subscriber.subscription_path(project, name),
                topic=publisher.topic_path(project, topics[name]),
                ack_deadline_seconds=subscription.after["ack_deadline_seconds"],
                message_retention_duration=Duration(
                    seconds=int(subscription.after["message_retention_duration"].removesuffix("s"))
                ),
                expiration_policy=ExpirationPolicy(),
            )
        )
    publisher.transport.close()
    subscriber.close()


@pytest.mark.usefixtures("planned_pubsub")
def test_a_request_is_answered_by_the_fleet_as_planned(
    plan: Plan, redis_port: int, local_pubsub, tmp_path: Path
) -> None:
    fleet = Fleet(
        {
            **Machine(plan, "control").settings,
            "LOWTIDE_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{redis_port}/0",
            "PUBSUB_EMULATOR_HOST": local_pubsub.host,
        },
        tmp_path,
    )
    try:
        for machine, service in (("control", "bridge"), ("worker", "worker")):
            run = Machine(plan, machine).docker_run(service)
            told = dict(option.removeprefix("--env=").split("=") for option in run.options if "--env=" in option)
            fleet.start(service, *run.command[1:], **{**told, "LOWTIDE_HEALTH_PORT": str(steady_port())})
        fleet.wait_ready(workers=1, bridges=1)

        lowtide(fleet, "publish", "--model", "digits", str(ROOT / "examples/digits/images/0001.png"))
        answer = json.loads(lowtide(fleet, "results", "--max", "1", "--json"))
    finally:
        fleet.stop()

    assert (answer["status"], answer["model"], answer["outputs"][0]["label"]) == ("ok", "digits", "2")


def lowtide(fleet: Fleet, *arguments: str) -> str:
    """As docs/deploy.md does it."""
    done = subprocess.run(
        [*LOWTIDE, *arguments],
        env={**fleet.env, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

"""Google Cloud on one port: what Pub/Sub holds is read in Cloud Monitoring, by the clients that production uses."""

import re
import signal
import subprocess
import sys
import time
from contextlib import closing

import grpc
import pytest
from google.api_core.exceptions import MethodNotImplemented, ResourceExhausted
from google.cloud import monitoring_v3, pubsub_v1
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from lowtide.bridge.pubsub.client import Pubsub, message_of
from lowtide.config.metrics import PUBSUB_UNDELIVERED
from lowtide.local.cloud import CloudServer

WAIT_S = 20.0


@pytest.fixture
def cloud(monkeypatch):
    with CloudServer() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        yield server


def metric_client(address):
    return monitoring_v3.MetricServiceClient(
        transport=MetricServiceGrpcTransport(channel=grpc.insecure_channel(address))
    )


def samples(client, project, subscription):
    """Newest first."""
    now_s = int(time.time())
    found = client.list_time_series(
        request={
            "name": f"projects/{project}",
            "filter": f'metric.type = "{PUBSUB_UNDELIVERED}" AND resource.type = "pubsub_subscription" '
            f'AND resource.labels.subscription_id = "{subscription}"',
            "interval": {"start_time": {"seconds": now_s - 600}, "end_time": {"seconds": now_s + 60}},
        },
        timeout=10,
    )
    return [point for series in found for point in series.points]


def wait_for(count, client, project, subscription):
    deadline_s = time.monotonic() + WAIT_S
    while not (found := samples(client, project, subscription)) or found[0].value.int64_value != count:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.1)
    return found


def test_what_is_published_held_and_acknowledged_shows_in_the_undelivered_count(cloud, project):
    topic, subscription = f"projects/{project}/topics/work", f"projects/{project}/subscriptions/work"
    with (
        pubsub_v1.PublisherClient() as publisher,
        pubsub_v1.SubscriberClient() as subscriber,
        metric_client(cloud.address) as client,
    ):
        publisher.create_topic(name=topic)
        subscriber.create_subscription(name=subscription, topic=topic)
        wait_for(0, client, project, "work")
        with closing(Pubsub()) as pubsub:
            pubsub.publish(topic, [message_of(text, {}) for text in (b"a", b"b", b"c")])  # no sample is in between
        wait_for(3, client, project, "work")
        held = subscriber.pull(subscription=subscription, max_messages=3, timeout=10).received_messages
        pulled_s = time.time()
        while (newest := samples(client, project, "work")[0]).interval.end_time.timestamp() < pulled_s:
            time.sleep(0.1)
        assert newest.value.int64_value == 3  # what a subscriber holds counts
        subscriber.acknowledge(subscription=subscription, ack_ids=[one.ack_id for one in held])
        found = wait_for(0, client, project, "work")
        assert {point.value.int64_value for point in found} == {0, 3}
        assert samples(client, "another", "work") == []


def test_writes_are_refused_while_it_says_so_and_pubsub_goes_on(cloud, project):
    cloud.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded")
    point = {"interval": {"end_time": {"seconds": int(time.time())}}, "value": {"int64_value": 1}}
    series = {"metric": {"type": "custom.googleapis.com/x"}, "resource": {"type": "global"}, "points": [point]}
    with metric_client(cloud.address) as client, pubsub_v1.PublisherClient() as publisher:
        with pytest.raises(ResourceExhausted, match="Quota exceeded"):
            client.create_time_series(name=f"projects/{project}", time_series=[series], timeout=10)
        publisher.create_topic(name=f"projects/{project}/topics/work", timeout=10)
        cloud.accept()
        client.create_time_series(name=f"projects/{project}", time_series=[series], timeout=10)


@pytest.mark.parametrize("with_pubsub", [True, False])
def test_the_command_serves_what_it_says_and_ends_well_on_a_signal(with_pubsub, project, monkeypatch):
    command = [sys.executable, "-m", "lowtide.local.cloud", "--port=0", *([] if with_pubsub else ["--no-pubsub"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            address = re.search(r"ready on (127\.0\.0\.1:\d+)", line)[1]
            assert ("PUBSUB_EMULATOR_HOST" in line) == with_pubsub
            monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
            with metric_client(address) as client, pubsub_v1.PublisherClient() as publisher:
                assert samples(client, project, "none") == []
                create = {"request": {"name": f"projects/{project}/topics/work"}, "retry": None, "timeout": 10}
                if with_pubsub:
                    publisher.create_topic(**create)
                else:
                    with pytest.raises(MethodNotImplemented):
                        publisher.create_topic(**create)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()  # a failure above must not leave it running, nor wait for it for ever
    assert (process.returncode, out, err) == (0, "", "")

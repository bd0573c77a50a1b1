"""The life of our Pub/Sub server: start, stop, what is left behind."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import pubsub_v1

from lowtide.local.grpc_server import ServerFailed
from lowtide.local.pubsub.server import PubsubServer
from tests.waiting import until


@pytest.fixture
def server(monkeypatch):
    with PubsubServer() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        yield server


def test_it_listens_until_stop_and_leaves_no_thread_and_no_port(project):
    before = set(threading.enumerate())
    server = PubsubServer()
    server.start()
    host, port = server.address.split(":")
    socket.create_connection((host, int(port))).close()
    server.stop()
    server.stop()
    until(lambda: not set(threading.enumerate()) - before, what="the end of its threads")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_a_taken_port_is_an_error_that_names_it(server):
    port = int(server.address.split(":")[1])
    with pytest.raises(ServerFailed, match=str(port)):
        PubsubServer(port=port).start()


def test_message_ids_never_repeat_over_restarts(monkeypatch, project):
    ids = []
    for _ in range(2):
        with PubsubServer() as server:
            monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
            with pubsub_v1.PublisherClient() as publisher:
                topic = f"projects/{project}/topics/work"
                publisher.create_topic(name=topic)
                ids.append(int(publisher.publish(topic, b"x").result(10)))
    assert ids[0] < ids[1]


def test_stop_does_not_wait_for_a_pull_that_waits(server, project):
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        topic, subscription = f"projects/{project}/topics/work", f"projects/{project}/subscriptions/work"
        publisher.create_topic(name=topic)
        subscriber.create_subscription(name=subscription, topic=topic)
        ended = threading.Event()

        def pull():
            with pytest.raises(GoogleAPICallError):
                subscriber.pull(subscription=subscription, max_messages=1, timeout=60, retry=None)
            ended.set()

        thread = threading.Thread(target=pull)
        thread.start()
        time.sleep(0.3)
        started_s = time.monotonic()
        server.stop()
        assert ended.wait(30)
        thread.join()
        assert time.monotonic() - started_s < 30


def test_a_defect_in_the_server_ends_the_process_with_an_error():
    script = (
        "import sys; from lowtide.local.pubsub import __main__, desk\n"
        "desk.Desk.tick = lambda desk: 1 / 0\n"
        "__main__.main(['--port', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "ended by itself" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_its_address_once_and_ends_well_on_a_signal(number):
    command = [sys.executable, "-m", "lowtide.local.pubsub", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            match = re.search(r"PUBSUB_EMULATOR_HOST=(127\.0\.0\.1):(\d+)$", line.strip())
            assert match, line
            socket.create_connection((match[1], int(match[2]))).close()
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()  # a failure above must not leave it running, nor wait for it for ever
    assert (process.returncode, out, err) == (0, "", "")


def test_a_command_that_was_stopped_and_continued_goes_on():
    command = [sys.executable, "-m", "lowtide.local.pubsub", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            host, port = process.stdout.readline().strip().rpartition("=")[2].split(":")
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            process.send_signal(signal.SIGCONT)
            time.sleep(1.0)
            socket.create_connection((host, int(port))).close()
            assert process.poll() is None
        finally:
            process.kill()


def test_a_backoff_keeps_a_nacked_message_back(server, project):
    """Ours alone: Google's emulator takes a retry policy and redelivers at once."""
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        topic, subscription = f"projects/{project}/topics/work", f"projects/{project}/subscriptions/work"
        publisher.create_topic(name=topic)
        backoff = {"minimum_backoff": timedelta(seconds=1), "maximum_backoff": timedelta(seconds=1)}
        subscriber.create_subscription(request={"name": subscription, "topic": topic, "retry_policy": backoff})
        publisher.publish(topic, b"x").result(10)
        (item,) = subscriber.pull(subscription=subscription, max_messages=1, timeout=10).received_messages
        started_s = time.monotonic()
        subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[item.ack_id], ack_deadline_seconds=0)
        assert len(subscriber.pull(subscription=subscription, max_messages=1, timeout=10).received_messages) == 1
        assert time.monotonic() - started_s > 0.9

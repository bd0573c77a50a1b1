import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from celery import Celery
from google.cloud import pubsub_v1
from redis import ConnectionError as RedisConnectionError

from lowtide.config import load_settings
from lowtide.local.process import tied
from lowtide.local.redis import EmbeddedRedis
from lowtide.local.stack import Stack
from lowtide.tasks.app import celery_config
from lowtide.tasks.held.heartbeat import BEAT_S
from lowtide.tasks.redis.connect import MOST as MOST_AT_ONCE
from lowtide.tasks.redis.connect import connect, free_within
from lowtide.tasks.redis.trouble import trouble_of
from lowtide.workers.consumer.results import install
from tests.connected import Connected
from tests.waiting import until

PROJECT = "test-connections"
IDLE = 5
MOST = Counter({"worker-0": 14, "bridge": 15, "caller": 36})
"""As docs/how-it-works.md says."""

MODEL = """
import torch
from lowtide.workers.model import Model

class Length(Model):
    def load(self, device):
        self.version = "1"

    def decode(self, content, params):
        return torch.tensor([float(len(content))])

    def predict(self, batch):
        return batch

    def encode(self, output, params):
        return [output.item()]
"""

CALLER = """
from concurrent.futures import ThreadPoolExecutor
from lowtide.tasks import infer, infer_many

REQUEST = {"model": "length", "data": "eA=="}

def one(_):
    return infer.delay(REQUEST).get(timeout=60)

def some(_):
    return [answer.outputs for answer in infer_many([REQUEST] * 10, timeout_s=60)]

with ThreadPoolExecutor(64) as pool:
    print(all(outputs == [1.0] for outputs in pool.map(one, range(400))), flush=True)
    print(all(outputs == [[1.0]] * 10 for outputs in pool.map(some, range(64))), flush=True)
    input()  # until it was counted
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "length.py").write_text(MODEL)
    settings = load_settings(models="length=length:Length", device="cpu", project=PROJECT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        with Stack(settings, folder=folder) as stack:
            stack.wait_ready()
            yield stack


def test_an_idle_worker_has_few_connections(stack: Stack) -> None:
    connected = Connected(stack.settings.redis_url, stack.pids)

    with connected.watched():
        time.sleep(BEAT_S + 1)
    assert 0 < connected.most["worker-0"] <= IDLE


def test_however_many_threads_call_and_store_results_connections_are_few(stack: Stack) -> None:
    command = tied([sys.executable, "-c", CALLER])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env={**os.environ, **stack.environment}, stdin=pipe, stdout=pipe) as caller:
        connected = Connected(stack.settings.redis_url, {**stack.pids, "caller": caller.pid})
        assert caller.stdin
        assert caller.stdout
        with connected.watched():
            assert [caller.stdout.readline(), caller.stdout.readline()] == [b"True\n", b"True\n"]
        caller.stdin.close()
    assert connected.most["caller"] > 0, "it was counted"
    assert connected.most - MOST == Counter()


def test_a_bridge_has_few_connections_while_it_works(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = Connected(stack.settings.redis_url, stack.pids)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", stack.pubsub_host)
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    mine = subscriber.subscription_path(PROJECT, "test")
    subscriber.create_subscription(name=mine, topic=publisher.topic_path(PROJECT, "lowtide-results"))
    results = set[str]()

    def take(message: pubsub_v1.subscriber.message.Message) -> None:
        results.add(message.attributes["message_id"])
        message.ack()

    with connected.watched(), subscriber:
        pull = subscriber.subscribe(mine, callback=take)
        topic = publisher.topic_path(PROJECT, "lowtide-requests")
        given = [publisher.publish(topic, b"x", model="length", lowtide_content="raw") for _ in range(1000)]
        sent = {each.result(30) for each in given}
        until(lambda: sent <= results)
        pull.cancel()
        pull.result()
    assert connected.most - MOST == Counter()


def test_who_finds_no_connection_free_is_told_so_after_a_while(redis_url: str) -> None:
    with connect(load_settings(redis_url=redis_url), timeout_s=0.1, most=1) as client, client.pubsub() as listening:
        listening.subscribe("a")
        with pytest.raises(RedisConnectionError) as none_free:
            client.ping()
        assert "its connections are all in use" in str(trouble_of(none_free.value))

        listening.close()
        assert client.ping()


def test_a_connection_from_before_the_pool_was_emptied_is_let_go(redis_url: str) -> None:
    with connect(load_settings(redis_url=redis_url), most=1) as client, client.pubsub() as before:
        before.subscribe("a")
        old, pool = before.connection, client.connection_pool
        pool.reset()
        with client.pubsub() as after:
            after.subscribe("b")
            before.close()
            assert not old.is_connected
        assert client.ping()
        assert [connection.is_connected for connection in pool._connections] == [True]


def test_a_redis_that_hangs_while_more_threads_than_connections_store_results_costs_none(tmp_path: Path) -> None:
    answer_s = 1.0
    with EmbeddedRedis(tmp_path) as server, Celery("results", set_as_current=False) as app:
        app.conf.update({**celery_config(load_settings(redis_url=server.url)), "redis_socket_timeout": answer_s})
        install(app)
        store = partial(app.backend.store_result, result=[1.0], state="SUCCESS")
        store("first")
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        with ThreadPoolExecutor(4 * MOST_AT_ONCE) as pool:
            stored = [pool.submit(store, f"task-{number}") for number in range(4 * MOST_AT_ONCE)]
            try:
                time.sleep(free_within(answer_s) + 1)  # so that some wait for a connection in vain
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert all(each.result(30) == [1.0] for each in stored)
        found = app.backend.mget([app.backend.get_key_for_task(f"task-{number}") for number in range(len(stored))])
        assert None not in found
        app.backend.client.connection_pool.disconnect()

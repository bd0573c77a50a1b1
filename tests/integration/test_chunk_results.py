import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from lowtide.config import Settings
from lowtide.tasks.chunks.results import ChunkResults
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys

KEYS = Keys("")
LONG = 10_000


class Hesitant:
    """Passes bytes on, to a Redis and back; stops for a while in the middle of what is longer than `LONG`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(1 << 20):
                sink.sendall(data[:LONG])
                if len(data) > LONG:
                    time.sleep(0.7)
                    sink.sendall(data[LONG:])


@pytest.fixture
def hesitant(redis_server, redis_url: str) -> Iterator[Redis]:
    relay = Hesitant(redis_server.port)
    client = connect(Settings(redis_url=relay.url))
    yield client
    client.close()
    relay.close()


def results_of(redis: Redis, waiting: set[str]) -> ChunkResults:
    unanswered = SimpleNamespace(task_ids=lambda: list(waiting), waits_for=waiting.__contains__)
    return ChunkResults(redis, KEYS, "o", unanswered)


def store(redis_url: str, *results: tuple[str, str]) -> None:
    """As workers do: the value, and word of it to the owner, at once."""
    with Redis.from_url(redis_url) as redis, redis.pipeline(transaction=True) as pipe:
        for task_id, output in results:
            meta = json.dumps({"status": "SUCCESS", "result": [{"status": "ok", "outputs": [output]}]})
            pipe.set(KEYS.result(task_id), meta)
            pipe.publish(KEYS.result("o"), f"{KEYS.result(task_id)}\n{meta}")
        pipe.execute()


def test_half_a_message_is_no_outage_and_costs_no_result(hesitant: Redis, redis_url: str) -> None:
    results = results_of(hesitant, {"o.0", "o.1", "o.2"})
    assert results.take(0.1) == []
    store(redis_url, ("o.0", "short"), ("o.1", "x" * 2 * LONG), ("o.2", "short"))
    found: set[str] = set()
    until_s = time.monotonic() + 20
    while len(found) < 3 and time.monotonic() < until_s:
        found |= {result.task_id for result in results.take(1.0)}
    results.close()

    assert found == {"o.0", "o.1", "o.2"}


class WithoutSubscriptions(Redis):
    """Has no connection for a subscription any more, as one with too many clients."""

    def pubsub(self, **_: object) -> SimpleNamespace:
        return SimpleNamespace(subscribed=True, get_message=self._refused, close=lambda: None)

    def _refused(self, **_: object) -> None:
        raise RedisConnectionError("max number of clients reached")


def test_results_come_also_while_no_subscription_can_be_had(redis_url: str) -> None:
    waiting = {"o.1"}
    with connect(Settings(redis_url=redis_url)) as client:
        results = results_of(WithoutSubscriptions(connection_pool=client.connection_pool), waiting)
        store(redis_url, ("o.1", "a"))
        assert [result.outcomes[0].outputs for result in results.take(5.0)] == [["a"]]
        waiting.clear()
        with pytest.raises(RedisConnectionError):
            results.take(0.1)


def test_a_result_comes_until_nobody_waits_for_it(redis_url: str) -> None:
    """Whatever fails before it is handed on: the connection, or who takes it."""
    waiting = {"o.0"}
    with connect(Settings(redis_url=redis_url)) as redis:
        results = results_of(redis, waiting)
        assert results.take(0.1) == []
        store(redis_url, ("o.0", "short"))
        found = [[result.task_id for result in results.take(5.0)] for _ in range(2)]
        waiting.clear()
        store(redis_url, ("o.0", "again"))
        found.append(results.take(1.5))
        results.close()

    assert found == [["o.0"], ["o.0"], []]

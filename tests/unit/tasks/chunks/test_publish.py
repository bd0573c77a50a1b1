"""What our app sends, and in how many writes. Kombu's client speaks to a connection that notes it."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Producer
from kombu.transport import redis as stock
from redis import Redis, ResponseError

from lowtide.tasks.app import App
from lowtide.tasks.chunks import publish
from lowtide.tasks.redis.keys import Keys

PREFIX = "fleet:"
WAKE = Keys(PREFIX).wake("m")


class Writes(list[list[str]]):
    """For each write its commands: name and key. `answers`: what the next is answered with, in turn; then 1."""

    def __init__(self) -> None:
        self.answers: list[Any] = []


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    noted = Writes()

    class Connection(stock.redis.Connection):
        def connect(self) -> None: ...

        def pack_commands(self, commands: Any) -> Any:
            return [list(command) for command in commands]

        def send_command(self, *command: Any, **_: Any) -> None:
            self.send_packed_command([command])

        def send_packed_command(self, commands: Any, check_health: bool = True) -> None:
            noted.append(
                [" ".join(map(str, command[:2] if command[0] != "EVAL" else command[::3][:2])) for command in commands]
            )

        def read_response(self, *_: Any, **__: Any) -> Any:
            answer = noted.answers.pop(0) if noted.answers else 1
            if isinstance(answer, Exception):
                raise answer
            return answer

        def can_read(self, *_: Any, **__: Any) -> bool:
            return False

    monkeypatch.setattr(publish.PublishingChannel, "connection_class", Connection)
    return noted


@pytest.fixture
def producer(writes: Writes) -> Iterator[Producer]:
    with App("ours", set_as_current=False) as app:
        app.conf.update(broker_url="redis://nowhere", broker_transport_options={"global_keyprefix": PREFIX})
        with app.connection_for_write() as connection:
            producer = app.amqp.Producer(connection)
            producer.channel  # noqa: B018 - kombu connects, and asks whether Redis is there
            writes.clear()
            yield producer


def send(producer: Producer, queue: str) -> None:
    producer.publish({}, exchange="", routing_key=queue, retry=False)


def test_a_task_and_its_token_are_one_write(producer: Producer, writes: Writes) -> None:
    send(producer, "lowtide.m.high")
    assert writes == [["LPUSH fleet:lowtide.m.high", f"EVAL {WAKE}"]]


def test_many_tasks_are_followed_by_one_command_for_each_queue(producer: Producer, writes: Writes) -> None:
    with producer.batch(max_size=3):
        for queue in ("lowtide.m", "lowtide.m.topic", "lowtide.m", "lowtide.m", "other"):
            send(producer, queue)
    lists = ["LPUSH fleet:lowtide.m", "LPUSH fleet:lowtide.m.topic", "LPUSH fleet:lowtide.m"]
    assert writes == [
        [*lists, f"EVAL {WAKE}", f"EVAL {WAKE}"],
        ["LPUSH fleet:lowtide.m", "LPUSH fleet:other", f"EVAL {WAKE}"],
    ]


def test_a_channel_makes_two_clients_for_its_pool_and_none_for_a_command(producer: Producer) -> None:
    channel = producer.channel
    prefixed, unprefixed, pool = channel._create_client(), channel.unprefixed, channel.pool
    send(producer, "lowtide.m")
    assert (channel._create_client(), channel.unprefixed) == (prefixed, unprefixed)
    assert (unprefixed.connection_pool, type(unprefixed)) == (pool, Redis)

    channel._disconnect_pools()
    assert channel.unprefixed.connection_pool is channel.pool is not pool
    assert channel._create_client().connection_pool is channel.pool


def test_what_goes_to_another_queue_has_no_token(producer: Producer, writes: Writes) -> None:
    send(producer, "celery")
    assert writes == [["LPUSH fleet:celery"]]


def test_a_token_that_is_refused_is_no_error_and_a_task_is(producer: Producer, writes: Writes) -> None:
    writes.answers = [1, ResponseError("NOPERM no permission to run 'eval'")]
    send(producer, "lowtide.m")
    writes.answers = [ResponseError("OOM command not allowed"), 1]
    with pytest.raises(Exception, match="OOM command not allowed"):
        send(producer, "lowtide.m")


@pytest.mark.parametrize(
    ("url", "ssl", "wakes"),
    [
        ("redis://h/0", None, True),
        ("rediss://h/0", {"ssl_cert_reqs": "required"}, True),
        ("rediss://h/0", None, False),
        ("memory://", None, False),
    ],
)
def test_only_our_app_and_only_to_redis_uses_the_transport_that_wakes(url: str, ssl: Any, wakes: bool) -> None:
    conf = {"broker_url": url, "broker_use_ssl": ssl}
    with App("ours", set_as_current=False) as ours, Celery("theirs", set_as_current=False) as theirs:
        ours.conf.update(conf)
        theirs.conf.update(conf)
        assert issubclass(ours.connection_for_write().get_transport_cls(), publish.Transport) is wakes
        assert not issubclass(theirs.connection_for_write().get_transport_cls(), publish.Transport)
        assert bool(ours.connection_for_write().ssl) is bool(theirs.connection_for_write().ssl)

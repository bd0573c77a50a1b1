"""What the consumer relies on in kombu. A failure here means: read the new version before you trust it."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import kombu.transport.redis as stock
import pytest
from kombu import Connection
from kombu.transport import memory

from lowtide.config import Settings
from lowtide.tasks.app import TRANSPORTS, configure
from lowtide.tasks.chunks import publish
from lowtide.tasks.queues import PRIORITY_STEPS, SEPARATOR, lists_of
from lowtide.tasks.redis.keys import Keys
from lowtide.workers.consumer.channel import Channel, Misplaced
from lowtide.workers.consumer.envelope import redelivered
from lowtide.workers.consumer.install import install, uninstall
from lowtide.workers.consumer.poller import Poller


@pytest.fixture
def installed() -> Iterator[None]:
    heartbeat: Any = SimpleNamespace(incarnation="1")
    install(settings=Settings(), heartbeat=heartbeat, seconds_per_request=lambda _: 0.0)
    yield
    uninstall()


def ours(scheme: str = "redis") -> Any:
    return Connection(f"{scheme}://", transport=TRANSPORTS[scheme]).transport


def test_nothing_of_kombus_is_replaced() -> None:
    program = (
        "import kombu.transport.redis as r;"
        "before = (dict(vars(r)), dict(vars(r.Transport)), dict(vars(r.Channel)));"
        "from lowtide.config import Settings;"
        "from lowtide.workers.consumer.install import install;"
        "install(settings=Settings(), heartbeat=None, seconds_per_request=None);"
        "assert before == (dict(vars(r)), dict(vars(r.Transport)), dict(vars(r.Channel)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_connections_of_our_app_take_our_way_from_install_to_uninstall(installed: None, scheme: str) -> None:
    assert isinstance(ours(scheme).cycle, Poller)
    assert issubclass(ours(scheme).Channel, Channel)
    uninstall()
    assert not isinstance(ours(scheme).cycle, Poller)
    assert ours(scheme).Channel is publish.PublishingChannel


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_our_app_sends_by_a_transport_of_its_own_and_its_url_is_redis_as_before(scheme: str) -> None:
    app = configure(Settings(redis_url=f"{scheme}://user:word@host:7/2"))
    for connection in (app.connection_for_write(), app.connection_for_read().clone()):
        assert isinstance(connection.transport, publish.Transport)
        assert connection.as_uri(include_password=True) == f"{scheme}://user:word@host:7/2"
    assert not isinstance(Connection("redis://").transport, publish.Transport)


def test_a_connection_from_before_is_refused(installed: None) -> None:
    channel = ours().Channel
    uninstall()
    with pytest.raises(Misplaced, match="install first"):
        channel(ours())


class Hashable(SimpleNamespace):
    __hash__ = object.__hash__


class Loop:
    """Celery's, as far as a transport knows it."""

    def __init__(self) -> None:
        self.poller = object()
        self.on_tick = set[Any]()
        self.readers: dict[int, Any] = {}

    def add_reader(self, fd: int, read: Any, *args: Any) -> None:
        self.readers[fd] = lambda: read(*args)

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def call_repeatedly(self, *_: Any) -> None: ...


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    one, other = socket.socketpair()
    with one, other:
        yield one


def test_the_loop_runs_the_poller_of_the_transport_and_reads_what_that_has_registered(
    installed: None, sock: socket.socket
) -> None:
    transport, loop, read = ours(), Loop(), list[str]()
    channel, client = Hashable(handlers={"WAKE": lambda: read.append("a token")}), Hashable()
    client.connection = SimpleNamespace(_sock=sock)
    transport.register_with_event_loop(SimpleNamespace(client=transport.client), loop)
    assert transport.cycle.in_loop
    transport.cycle.poller = SimpleNamespace(register=lambda *_: None)
    transport.cycle._register(channel, client, "WAKE")

    for turn in loop.on_tick:
        turn()
    loop.readers[sock.fileno()]()
    assert read == ["a token"]


def test_every_command_of_a_channel_goes_through_the_client_that_it_makes() -> None:
    class Own(stock.Channel):
        def __init__(self) -> None: ...

        def _create_client(self, asynchronous: bool = False) -> str:
            return "ours"

    with Own().conn_or_acquire() as client:
        assert client == "ours"


class Recording(memory.Channel):
    """A channel without Redis, which tells what happens in which order."""

    do_restore = True

    steps: list[str]

    def basic_cancel(self, consumer_tag: str) -> None:
        self.steps.append("cancel")
        super().basic_cancel(consumer_tag)

    class QoS(memory.Channel.QoS):
        def append(self, message: Any, delivery_tag: Any) -> None:
            self.channel.steps.append("append")
            super().append(message, delivery_tag)

        def restore_unacked_once(self, stderr: Any = None) -> None:
            self.channel.steps.append("restore")
            super().restore_unacked_once(stderr)

        def restore_unacked(self) -> None:
            self.channel.steps.append(
                f"restore {sorted(message.body.decode() for message in self._delivered.values())}"
            )
            super().restore_unacked()


def test_a_delivery_is_noted_before_celery_hears_of_it_and_what_is_left_goes_back_after_the_consumers_went() -> None:
    Recording.steps = steps = []
    with Connection("memory://") as connection:
        connection.transport.Channel = Recording
        channel = connection.channel()
        for body in ("acknowledged", "left"):
            channel.queue_declare("q")
            channel.basic_publish(channel.prepare_message(body), "", "q")
        channel.basic_consume("q", False, lambda message: steps.append(message.body.decode()), "consumer")
        for _ in range(2):
            connection.drain_events(timeout=5)
        channel.basic_ack(next(iter(channel.qos._delivered)))
        channel.close()
    assert steps == [
        *["append", "acknowledged", "append", "left"],
        *["cancel", "restore", "restore ['left']"],
    ]


def test_what_kombu_restores_is_marked_where_we_look() -> None:
    pushed: list[bytes] = []
    channel: Any = stock.Channel.__new__(stock.Channel)
    channel._lookup = lambda *_: ["q"]
    message = {"headers": {}, "properties": {"delivery_info": {}}}
    channel._do_restore_message(message, "", "q", SimpleNamespace(rpush=lambda _, raw: pushed.append(raw)))
    assert redelivered(json.loads(pushed[0]))


def test_names_and_formats_are_those_that_we_know() -> None:
    keys = Keys("")
    assert not {stock.Channel.unacked_key, stock.Channel.unacked_index_key} & {keys.held("x"), keys.holders}
    assert stock.Channel.sep == SEPARATOR
    prefixed = stock.GlobalKeyPrefixMixin
    assert "EVAL" not in {*prefixed.PREFIXED_SIMPLE_COMMANDS, *prefixed.PREFIXED_COMPLEX_COMMANDS}
    assert set(stock.PRIORITY_STEPS) <= set(PRIORITY_STEPS)
    assert (stock.Channel.min_priority, stock.Channel.max_priority) == (PRIORITY_STEPS[0], PRIORITY_STEPS[-1])
    channel = stock.Channel.__new__(stock.Channel)
    channel.priority_steps = PRIORITY_STEPS
    assert tuple(channel._q_for_pri("q", step) for step in PRIORITY_STEPS) == lists_of("q")

"""What the consumer relies on in kombu and Celery. A failure here means: read the new version before you trust it."""

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import celery.worker.state
import kombu.transport.redis as stock
import pytest
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.transport import virtual

from lowtide.config import Settings
from lowtide.tasks.app import TRANSPORTS, configure
from lowtide.tasks.chunks import publish
from lowtide.tasks.queues import PRIORITY_STEPS, SEPARATOR, lists_of
from lowtide.tasks.redis.keys import Keys
from lowtide.workers.consumer.channel import Channel, Misplaced
from lowtide.workers.consumer.install import install, uninstall
from lowtide.workers.consumer.poller import Poller


@pytest.fixture
def installed() -> Iterator[None]:
    heartbeat: Any = SimpleNamespace(incarnation="1")
    install(settings=Settings(), heartbeat=heartbeat, seconds_per_request=lambda _: 0.0)
    yield
    uninstall()


def parameters(function: Callable[..., Any]) -> str:
    return ", ".join(str(name) for name in inspect.signature(function).parameters)


def test_importing_changes_nothing_in_kombu() -> None:
    program = (
        "import kombu.transport.redis as r;"
        "before = (r.Transport.Channel, r.MultiChannelPoller, dict(vars(r.Channel)));"
        "import lowtide.tasks, lowtide.workers.consumer.install;"
        "assert before == (r.Transport.Channel, r.MultiChannelPoller, dict(vars(r.Channel)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_install_takes_kombus_place_and_uninstall_gives_it_back(installed: None) -> None:
    transport = Connection("redis://").transport
    assert isinstance(transport.cycle, Poller)
    assert issubclass(transport.Channel, Channel)
    assert issubclass(Connection("rediss://").transport.Channel, Channel)
    uninstall()
    assert stock.Transport.Channel is stock.Channel
    assert type(Connection("redis://").transport.cycle).__module__ == "kombu.transport.redis"


def test_a_worker_takes_our_way_also_by_the_transport_that_our_app_sends_with(installed: None) -> None:
    assert issubclass(publish.Transport.Channel, Channel)
    assert isinstance(Connection("redis://", transport=TRANSPORTS["redis"]).transport.cycle, Poller)
    uninstall()
    assert publish.Transport.Channel is publish.PublishingChannel


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_our_app_sends_by_a_transport_of_its_own_and_its_url_is_redis_as_before(scheme: str) -> None:
    app = configure(Settings(redis_url=f"{scheme}://user:word@host:7/2"))
    for connection in (app.connection_for_write(), app.connection_for_read().clone()):
        assert isinstance(connection.transport, publish.Transport)
        assert connection.as_uri(include_password=True) == f"{scheme}://user:word@host:7/2"
    assert not isinstance(Connection("redis://").transport, publish.Transport)


def test_a_connection_from_before_is_refused(installed: None) -> None:
    channel = stock.Transport.Channel
    uninstall()
    transport = Connection("redis://").transport
    with pytest.raises(Misplaced, match="install first"):
        channel(transport)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (stock.QoS.append, "self, message, delivery_tag"),
        (stock.QoS.ack, "self, delivery_tag"),
        (stock.QoS.reject, "self, delivery_tag, requeue"),
        (stock.QoS.can_consume, "self"),
        (stock.QoS.restore_unacked, "self, client"),
        (stock.QoS.restore_unacked_once, "self, stderr"),
        (stock.QoS.restore_visible, "self, start, num, interval"),
        (stock.Channel.__init__, "self, args, kwargs"),
        (stock.Channel._create_client, "self, asynchronous"),
        (stock.Channel._put, "self, queue, message, kwargs"),
        (stock.Channel.create_publish_batch, "self, max_size"),
        (stock.PublishBatch.flush, "self"),
        (stock.Channel._connparams, "self, asynchronous"),
        (stock.Channel._on_connection_disconnect, "self, connection"),
        (virtual.Channel.basic_consume, "self, queue, no_ack, callback, consumer_tag, kwargs"),
        (virtual.Transport._deliver, "self, message, queue"),
        (stock.MultiChannelPoller.on_poll_init, "self, poller"),
        (stock.MultiChannelPoller.on_poll_start, "self"),
        (stock.MultiChannelPoller.on_readable, "self, fileno"),
        (stock.MultiChannelPoller.maybe_restore_messages, "self"),
        (stock.MultiChannelPoller.maybe_check_brpop_health, "self"),
        (stock.MultiChannelPoller._register, "self, channel, client, type"),
        (stock.MultiChannelPoller._register_LISTEN, "self, channel"),
        (stock.Transport.register_with_event_loop, "self, connection, loop"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_kombus_functions_have_the_parameters_that_we_know(function: Callable[..., Any], expected: str) -> None:
    assert parameters(function) == expected


@pytest.mark.parametrize(
    ("function", "words"),
    [
        # The loop runs the poller of the transport's module, and adds what it watches as readers.
        (stock.Transport.__init__, ["self.cycle = MultiChannelPoller()"]),
        (
            stock.Transport.register_with_event_loop,
            ["cycle.on_poll_init(loop.poller)", "cycle.on_poll_start", "for fd in cycle.fds", "client.connection is"],
        ),
        (
            stock.MultiChannelPoller._register,
            ["client.connection._sock", "_fd_to_chan[sock.fileno()]", "_chan_to_sock"],
        ),
        (stock.Channel._connparams, ["channel._on_connection_disconnect(self)", "'connection_class'"]),
        (stock.Channel.__init__, ["self.connection.cycle.add(self)", "self.handlers = {"]),
        (stock.Channel.conn_or_acquire, ["yield self._create_client()"]),
        # What is sent, and by which list's name.
        (stock.Channel._put, ["_publish_batch", "self._expires", "client.lpush(key, dumps(message))"]),
        (stock.PublishBatch.__init__, ["self.channel = channel", "client.pipeline(transaction=False)"]),
        (stock.PublishBatch.flush, ["self.pipeline.execute()"]),
        # A delivery is noted with QoS.append, before Celery hears of it.
        (virtual.Channel.basic_consume, ["self.qos.append(message, message.delivery_tag)", "callback(message)"]),
        # The end of a channel: consumers go, then what is unacknowledged.
        (virtual.Channel.close, ["self.basic_cancel(consumer)", "self._qos.restore_unacked_once()"]),
        (virtual.QoS.restore_unacked_once, ["self.restore_unacked()"]),
        (virtual.QoS.ack, ["self._quick_ack(delivery_tag)"]),
        # Format: what a restored message carries.
        (
            stock.Channel._do_restore_message,
            ["['headers']['redelivered'] = True", "['delivery_info']['redelivered'] = True"],
        ),
        # After a broken connection Celery closes the channels while their consumers are still there.
        (Consumer.on_connection_error_after_connected, ["self.connection.collect("]),
        (Consumer.start, ["self.on_connection_error_after_connected(exc)", "blueprint.restart(self)"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_kombu_still_does_what_we_build_on(function: Callable[..., Any], words: list[str]) -> None:
    source = inspect.getsource(function)
    assert [word for word in words if word not in source] == []


def test_names_and_formats_are_those_that_we_know() -> None:
    keys = Keys("")
    assert not {stock.Channel.unacked_key, stock.Channel.unacked_index_key} & {keys.held("x"), keys.holders}
    assert stock.Channel.sep == SEPARATOR
    prefixed = stock.GlobalKeyPrefixMixin
    assert "EVAL" not in {*prefixed.PREFIXED_SIMPLE_COMMANDS, *prefixed.PREFIXED_COMPLEX_COMMANDS}
    assert set(stock.PRIORITY_STEPS) <= set(PRIORITY_STEPS)
    assert (stock.Channel.min_priority, stock.Channel.max_priority) == (PRIORITY_STEPS[0], PRIORITY_STEPS[-1])
    assert stock.Transport.Channel is stock.Channel
    assert hasattr(celery.worker.state, "active_requests")
    channel = stock.Channel.__new__(stock.Channel)
    channel.priority_steps = PRIORITY_STEPS
    assert tuple(channel._q_for_pri("q", step) for step in PRIORITY_STEPS) == lists_of("q")

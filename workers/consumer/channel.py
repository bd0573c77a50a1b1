"""Kombu's Redis channel and its quality of service, with tasks taken by the intake. What it took lies in keys of ours.

What didn't come by the intake (kombu's `basic_get`, a channel without an event loop) goes kombu's own way, in its keys.
"""

# mypy: disallow-untyped-calls=False
# Kombu has no types.

import logging
from functools import cached_property
from typing import Any, ClassVar

from celery.worker import state as worker_state
from kombu.transport import redis as stock
from kombu.transport import virtual
from redis import ResponseError

from lowtide.config.redis_url import RedisAddress
from lowtide.tasks.chunks import publish
from lowtide.tasks.errors import LowtideError
from lowtide.tasks.queues import SEPARATOR
from lowtide.workers.consumer.intake import Intake
from lowtide.workers.consumer.poller import Poller
from lowtide.workers.consumer.session import WorkerSession

log = logging.getLogger(__name__)


class Misplaced(LowtideError):
    """Raised when a channel can't work as it was set up: its queues are not those that the intake takes from."""


class QoS(stock.QoS):
    """What the channel delivered and may still take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kombus: set[str] = set()

    def can_consume(self) -> bool:
        """Kombu's prefetch rule, counted over the whole process, and room for work."""
        if self.channel.connection.cycle.in_loop and self.channel.active_queues:
            return not self.channel.session.budget(self.prefetch_count).empty
        allowed: bool = super().can_consume()
        return allowed

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a delivery; Redis has the intake's as held already."""
        if delivery_tag in self.channel.session.ledger:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            self._kombus.add(delivery_tag)
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge. Written to Redis once per turn of the loop."""
        if self._release(delivery_tag, done=True) or self._too_late:
            return
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop the message, or put it back to the head of its queue, where the next free worker finds it."""
        if self._release(delivery_tag, done=not requeue) or self._too_late:
            return
        super().reject(delivery_tag, requeue=requeue)

    def restore_unacked(self, client: Any = None) -> None:
        """The channel ends: what was not started goes back."""
        running = self.channel.running()
        for tag, message in list(self._delivered.items()):
            if tag in self._kombus:
                self.restore_by_tag(tag, client)
            elif message.headers.get("id") not in running:
                self.channel.session.ledger.release(tag, done=False)
        self._delivered.clear()
        self._kombus.clear()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Kombu's own, which asks for nothing when all was acknowledged: that is still to be written."""
        super().restore_unacked_once(stderr)
        self.channel.session.try_to_flush()

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Not by age: see `lowtide.tasks.held.sweeper`. What lies in kombu's own `unacked` is others'."""

    def postpone(self, delivery_tag: str, due: float) -> bool:
        """Give a task up until it is due, Unix time; False when it is. Raises RedisError."""
        if not self.channel.session.postpone(delivery_tag, due=due):
            return False
        virtual.QoS.ack(self, delivery_tag)
        return True

    @property
    def _too_late(self) -> bool:
        """The channel has ended, and handed back what it held: a task that finished after the connection broke is
        acknowledged by Celery's loop only then. Whoever gets it finds its result.
        """
        return bool(self.channel.closed)

    def _release(self, tag: str, *, done: bool) -> bool:
        session = self.channel.session
        if tag not in session.ledger:
            return False
        session.ledger.release(tag, done=done)
        virtual.QoS.ack(self, tag)
        if self.channel.closed:
            session.try_to_flush()  # no loop does it for us any more
        return True


class Channel(publish.PublishingChannel):
    """A worker's channel. `install` gives our app's transport a subclass with a session."""

    QoS = QoS
    session: ClassVar[WorkerSession]

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        if not isinstance(connection.cycle, Poller):
            raise Misplaced("this connection was made before lowtide.workers.consumer.install: install first")
        self.no_ack_queues: set[str] = set()
        self.intake = Intake(self)
        self._lost = False
        super().__init__(connection, **kwargs)
        self.async_pool.disconnect()  # kombu's ping, by a connection that most channels do not need

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Kombu's own, remembering which queues nobody will acknowledge."""
        if no_ack:
            self.no_ack_queues.add(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Kombu's own. A full Redis may refuse it: only publishers read it, who write it themselves, and a worker that
        didn't start could never empty a full Redis.
        """
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except ResponseError as error:
            log.debug("the binding of %s is refused: %s", queue, error)

    def maybe_refresh_binding_expiry(self) -> None:
        """Kombu's own, whose poller would warn of a full Redis again and again."""
        try:
            super().maybe_refresh_binding_expiry()
        except ResponseError as error:
            log.debug("the bindings are not refreshed: %s", error)

    def _size(self, queue: str) -> int:
        """Kombu's own, without the transaction: a full Redis queues none, and Celery asks when it connects."""
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for step in self.priority_steps:
                pipe.llen(self._q_for_pri(queue, step))
            return sum(size for size in pipe.execute() if isinstance(size, int))

    def running(self) -> frozenset[str]:
        """Ids of tasks that this process goes on running after the channel's end: those that Celery had started
        when the connection broke. Their threads can't be stopped, so giving them back would run them twice.
        """
        return frozenset(request.id for request in worker_state.active_requests) if self._lost else frozenset()

    def close(self) -> None:
        """Close. Celery cancels its consumers before an orderly end; if they are still there, the connection broke."""
        if not self.closed:
            self._lost = bool(self._consumers)
            self.session.liveness.rest()
            self.intake.close()
        super().close()

    @property
    def pool(self) -> Any:
        """Kombu's own, one for each channel; but the session's where the session's Redis is meant."""
        return self.session.pool if self._is_our_redis else super().pool

    @cached_property
    def _is_our_redis(self) -> bool:
        to = self._connparams()
        parts = {name: to[name] for name in ("host", "port", "db", "username", "password")}
        return RedisAddress(**parts, tls=self.connection.client.ssl or None) == self.session.address

    def agree(self) -> None:
        """Raises Misplaced when the worker would listen where the intake does not take."""
        ours = (self.session.keys.prefix, SEPARATOR)
        theirs = (self.global_keyprefix, self.sep)
        if ours != theirs:
            raise Misplaced(f"the app's broker_transport_options say {theirs}, the fleet's settings {ours}")

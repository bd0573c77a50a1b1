"""The loop that joins room, lists and Celery: take, deliver, and wait only when there was nothing."""

# mypy: disallow-untyped-calls=False
# Kombu has no types.

import logging
from collections.abc import Sequence
from typing import Any

from kombu.utils.json import loads

from lowtide.tasks.held.ledger import HeldTask
from lowtide.tasks.held.moves import Taken, Took
from lowtide.tasks.queues import model_of
from lowtide.workers.consumer.envelope import mark_redelivered, redelivered, task_of
from lowtide.workers.consumer.wake import Wake

log = logging.getLogger(__name__)

TAKES_PER_TURN = 16
"""The loop has other work too: acknowledgements, heartbeats, remote control."""

CHOKED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What kombu and Celery raise at a message that is malformed; at a connection that breaks they raise others."""


class Intake:
    """Feeds one channel. Only the event loop calls it."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._session = channel.session
        self._wake = Wake(channel)

    def serve(self) -> None:
        """Take while there is room; wait when there was nothing. Who has no room, may not take, or serves nothing any
        more, passes on what woke it, and waits for nothing more until the next turn: it would wake itself.
        """
        self._wake.drop_if_overdue(grace_s=self._channel.health_check_interval)
        for _ in range(TAKES_PER_TURN):
            queues: list[str] = self._channel.active_queues
            self._wake.drop_if_other(queues)
            if self._wake.armed:
                return
            token, self._wake.token = self._wake.token, None
            if not queues or not self._channel.qos.can_consume():
                self._pass_on(token)
                return
            nothing = self._wake.in_vain and not self._session.moves.anything(queues)
            took = Took() if nothing else self._session.take(queues, prefetch=self._channel.qos.prefetch_count)
            if took is None:
                self._pass_on(token)
                return
            self._deliver_all(took.messages)
            # Who took the last is told of what comes behind it: whatever comes brings a token.
            if not took.messages or (not took.more and self._channel.qos.can_consume()):
                self._wake.arm(queues)
                return

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._wake.close()

    def _pass_on(self, token: str | None) -> None:
        if token:
            self._session.moves.pass_on(token)

    def _deliver_all(self, taken: Sequence[Taken]) -> None:
        # All are in the ledger before the first is delivered, whatever becomes of that. `_admit` raises nothing.
        admitted = [(item, *self._admit(item)) for item in taken]
        waiting = [held.delivery for _, held, _ in admitted]
        try:
            for item, held, message in admitted:
                self._deliver(item, held, message)
                waiting.remove(held.delivery)
        finally:
            for delivery in waiting:
                self._session.ledger.release(delivery, done=False)

    def _admit(self, item: Taken) -> tuple[HeldTask, Any]:
        held = HeldTask(
            incarnation=item.incarnation,
            tag=item.tag,
            task=item.task,
            model=model_of(item.queue),
            requests=item.requests,
        )
        self._session.ledger.add(held)
        try:
            return held, self._read(item, held)
        except Exception as error:  # noqa: BLE001 - kombu's JSON makes decimals, dates and whatever is registered of it
            self._drop(item, error)
            return held, None

    def _read(self, item: Taken, held: HeldTask) -> Any:
        message = loads(item.raw)
        # Its own, or what it was filed under if it has none that is text.
        message["properties"]["delivery_tag"] = held.delivery
        task = task_of(message)
        if task != item.task or (not task and "id" in (message.get("headers") or {})):
            raise TypeError("a task's id is text, without control characters")
        if item.again:
            mark_redelivered(message)
        redelivered(message)
        return message

    def _drop(self, item: Taken, error: Exception) -> None:
        # Neither it nor the error is quoted: they may hold content, or a signed URL in base64.
        what = type(error).__name__
        log.error("message %s of %s is no task, %d bytes dropped: %s", item.tag, item.queue, len(item.raw), what)

    def _deliver(self, item: Taken, held: HeldTask, message: dict[str, Any] | None) -> None:
        ledger = self._session.ledger
        if message is None:
            ledger.release(held.delivery, done=True)
        elif redelivered(message) and self._session.finished(held.task):
            # Its first holder stored the result and died before it acknowledged.
            log.info("task %s is finished already, not run again", held.task)
            ledger.release(held.delivery, done=True)
        else:
            try:
                self._channel.connection._deliver(message, item.queue)
            except CHOKED as error:
                # It would be the same in every worker that it came to.
                self._drop(item, error)
                self._channel.qos.ack(held.delivery)
            if item.queue in self._channel.no_ack_queues:
                ledger.release(held.delivery, done=True)

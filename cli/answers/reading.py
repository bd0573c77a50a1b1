"""`Reading`: a subscription that one person reads, which may hold anything. Each message is seen once."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Self

from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.pubsub.client import Pubsub, PubsubUnavailable
from lowtide.bridge.pubsub.pulls import Pulls
from lowtide.cli.answers.silence import Silence
from lowtide.config.process.outage import Outage

log = logging.getLogger(__name__)

PULL_AT_ONCE = 1000
WAIT_S = 0.25
AGAIN_S = 1.0
REMEMBERED = 100_000
"""Messages of which is known that they were seen: those that stay come again each time that their lease ends."""


class Reading:
    """A context manager: at its end what was not acknowledged goes back.

    `count`: messages that were done with.
    """

    def __init__(self, pubsub: Pubsub, subscription: str, *, silence: Silence) -> None:
        """`subscription`: full name."""
        self.count = 0
        self._pubsub = pubsub
        self._subscription = subscription
        self._silence = silence
        self._pulls = Pulls(pubsub, [subscription])
        self._outage = Outage("Pub/Sub does not answer")
        self._held: dict[str, str] = {}
        """Message id → ack id."""
        self._acknowledged: dict[str, None] = {}
        self._due: list[str] = []
        """Ack ids."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._acknowledge()
        brought = {message.message_id: message.ack_id for message in self._pulls.cancel()}
        if ack_ids := [*{**self._held, **brought}.values()]:
            with contextlib.suppress(PubsubUnavailable):  # they go back when their lease ends
                self._pubsub.modify_ack_deadline(self._subscription, ack_ids, 0)

    def messages(self, *, limit: int | None = None) -> Iterator[Received]:
        """Each message, until `limit` are done with or the silence is over. Raises PubsubError."""
        answers = unanswered = False
        while limit is None or self.count < limit:
            away: PubsubUnavailable | None = None
            try:
                yield from self._pull(PULL_AT_ONCE if limit is None else min(PULL_AT_ONCE, limit - self.count))
            except PubsubUnavailable as error:
                away = error
                self._outage.failed(error)
                time.sleep(AGAIN_S)
            if not self._silence.told(lambda: self._waited_for(limit)) or self._pulls.may_come_again:
                answers = False
                continue
            if away:
                raise away
            if answers:
                return
            # It, or this machine, may have stood still: then what came meanwhile is here now.
            try:
                self._pubsub.check_answers(self._subscription)
                answers = True
            except PubsubUnavailable:
                if unanswered:
                    raise
                unanswered = True  # it may be for a moment
                time.sleep(AGAIN_S)

    def done(self, message: Received, *, acknowledge: bool, counts: bool = True) -> None:
        """What `messages` gave was dealt with; one that isn't acknowledged stays on the subscription."""
        self.count += counts
        if not acknowledge:
            return
        self._acknowledged[message.message_id] = None
        if len(self._acknowledged) > REMEMBERED:
            del self._acknowledged[next(iter(self._acknowledged))]
        self._due.append(self._held.pop(message.message_id))

    def _pull(self, count: int) -> Iterator[Received]:
        self._pulls.ask(count)
        received = self._pulls.take(WAIT_S) or []
        self._outage.over()
        fresh = [message for message in received if not self._was_seen(message)]
        self._held |= {message.message_id: message.ack_id for message in received}
        for message in received:
            if message.message_id in self._acknowledged:  # the first time went unheard
                self._due.append(self._held.pop(message.message_id))
        if fresh:
            self._silence.broken()
        yield from fresh
        self._acknowledge()

    def _was_seen(self, message: Received) -> bool:
        return message.message_id in self._acknowledged or message.message_id in self._held

    def _acknowledge(self) -> None:
        """What can't be acknowledged now comes again, and is known then."""
        due, self._due = self._due, []
        try:
            if due:
                self._pubsub.acknowledge(self._subscription, due)
        except PubsubUnavailable as error:
            log.warning("%s; what was read may come again", error)

    def _waited_for(self, limit: int | None) -> str:
        left = "results" if limit is None else f"{limit - self.count:,} more results"
        return f"{left} on {self._subscription}"

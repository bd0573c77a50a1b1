"""What a message ends with: a result, an expiry notice or a dead letter."""

import time
from collections.abc import Callable

from lowtide.bridge.messages.dead_letter import dead_letter
from lowtide.bridge.messages.kinds import Ending, Received, Rejection, SilentEnding, Translated
from lowtide.bridge.messages.result import result_message
from lowtide.bridge.messages.translate import claimed_id
from lowtide.config import Settings
from lowtide.tasks.errors import EMPTY_OBJECT
from lowtide.tasks.running.losses import WORKER_LOST
from lowtide.tasks.wire.outcome import Outcome, Status

INTERNAL_ERROR = "internal_error"
"""The reason of a message that Lowtide itself fails on: a mistake of ours, which a release may mend."""
REPLY_REFUSED = "reply_refused"
"""The reason of a message whose result Pub/Sub refuses for good."""


class Endings:
    """Writes outgoing messages, with the settings' topics and limits."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self.dead_letter_topic = settings.topic_path(settings.dead_letter_topic)
        self._max_bytes = settings.result_max_bytes
        self._now = now

    def of_rejection(self, received: Received, rejection: Rejection, *, tries: int) -> Ending:
        """A message that never was a request."""
        return self._dead(received, rejection.reason, rejection.message, tries=tries, request_id=claimed_id(received))

    def of_mistake(self, received: Received, error: Exception, *, tries: int) -> Ending:
        """A message that something of ours raised `error` for. Neither is read: that may be what it failed on."""
        name = type(error).__name__
        return self._dead(received, INTERNAL_ERROR, name, tries=tries, request_id=received.message_id)

    def of_expired(self, item: Translated) -> Ending:
        """A request that expired before it was sent to a worker."""
        return self._result(item, Outcome(status=Status.EXPIRED))

    def of_outcome(self, item: Translated, outcome: Outcome) -> Ending | SilentEnding:
        """A request that a worker had."""
        if item.is_upload and outcome.error is not None and outcome.error.type == EMPTY_OBJECT:
            # Of no bytes, which not every notice says.
            return SilentEnding(received=item.received, why="empty")
        if outcome.status is Status.FAILED and outcome.error is not None and outcome.error.type == WORKER_LOST:
            # No result: the request may be innocent, and `lowtide replay` shall be able to try it again.
            return self._dead(
                item.received,
                WORKER_LOST,
                outcome.error.message,
                tries=item.tries,
                request_id=item.request_id,
            )
        return self._result(item, outcome)

    def of_refused(self, ending: Ending, error: Exception) -> Ending:
        """A message whose result Pub/Sub refuses, by `error`."""
        why = f"{ending.outgoing.topic}: {error}"
        return self._dead(ending.received, REPLY_REFUSED, why, tries=ending.tries, request_id=ending.request_id)

    def _result(self, item: Translated, outcome: Outcome) -> Ending:
        outgoing = result_message(item, outcome, now_s=self._now(), max_bytes=self._max_bytes)
        return Ending(received=item.received, outgoing=outgoing, request_id=item.request_id, tries=item.tries)

    def _dead(self, received: Received, reason: str, error: str, *, tries: int, request_id: str) -> Ending:
        outgoing = dead_letter(
            received, topic=self.dead_letter_topic, reason=reason, error=error, tries=tries, request_id=request_id
        )
        return Ending(received=received, outgoing=outgoing, request_id=request_id, tries=tries)

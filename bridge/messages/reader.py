"""`Reader`: a message becomes a request, or what it ends with instead."""

import logging
from dataclasses import replace

from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import AnyEnding, Ending, Ignored, Received, Rejection, SilentEnding, Translated
from lowtide.bridge.messages.translate import Rules, translate

log = logging.getLogger(__name__)


class Reader:
    """Reads by the rules of one bridge. Raises nothing, whatever a message holds."""

    def __init__(self, rules: Rules, endings: Endings) -> None:
        self._rules = rules
        self._endings = endings

    def read(self, message: Received, *, tries: int) -> Translated | AnyEnding:
        """`tries`: attempts that were counted before."""
        try:
            item = translate(message, self._rules)
            if isinstance(item, Rejection):
                return self._endings.of_rejection(message, item, tries=tries)
            if isinstance(item, Ignored):
                return SilentEnding(received=message, why=item.why)
            item = replace(item, tries=tries) if tries else item
            return self._endings.of_expired(item) if item.request.expired() else item
        except Exception as error:  # noqa: BLE001 (it would end each bridge that gets the message, one after another)
            return self.mistake(message, error, tries=tries)

    def mistake(self, message: Received, error: Exception, *, tries: int) -> Ending:
        """What a message ends with that something of ours raised `error` for."""
        log.error("message %s becomes a dead letter: we fail on it", message.key, exc_info=error)
        return self._endings.of_mistake(message, error, tries=tries)

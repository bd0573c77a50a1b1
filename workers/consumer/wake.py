"""A wait for tokens: one connection's `BLPOP` of all models at once. A token has no content, the take looks for itself:
one that was delivered to a dead machine's connection delays others by a second, and no task is lost.
"""

# mypy: disallow-untyped-calls=False
# Kombu has no types.

import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis import ResponseError

from lowtide.tasks.queues import heard_of

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Redis answers at the latest then, and the worker looks: for what came without a token, what has become due, in queues
that aren't ours, and in those of a model of which remote control has cancelled another.
"""
AGAIN_S = 1.0
NOBODYS = ""
"""The model of a channel that serves none of ours as a whole: its connection waits for a key that nobody writes."""


class Wake:
    """The wait of one channel. Armed: an answer is still to come. Only the event loop calls it.

    Stands where kombu's poller expects a client: it asks for `connection` and nothing else.
    """

    def __init__(self, channel: Any) -> None:
        self.armed = False
        self.type = "WAKE"
        self.connection: Any = None
        self.token: str | None = None
        """The key of a token that came and has not led to a take."""
        self.in_vain = False
        """There was none as long as it waited."""
        self._channel = channel
        self._look_s: float = channel.session.look_s
        self._clock: Callable[[], float] = channel.session.clock
        self._keys: list[str] = []
        self._armed_at = 0.0
        self._not_before = 0.0

    def arm(self, queues: Sequence[str]) -> None:
        """Ask to be told of tasks in these, unless Redis refused just now. Raises kombu's connection errors."""
        if self._clock() < self._not_before:
            return
        if self.connection is None or not self.connection.is_connected:
            self._connect()
        self._keys = self._keys_of(queues)
        self.connection.send_command("BLPOP", *self._keys, self._look_s)
        self.armed, self.in_vain, self._armed_at = True, False, self._clock()

    def read(self) -> None:
        """Take the answer off the wire: a token's key, or none when there was nothing in time."""
        self.armed = False
        try:
            answer = self.connection.read_response(disable_decoding=True)
        except ResponseError as error:
            # A read-only Redis refuses `BLPOP`. Whether tasks can be taken is another question: the take finds out,
            # and the loop turns every second or two without us.
            log.debug("%s is refused: %s", self.type, error)
            self._not_before = self._clock() + AGAIN_S
            return
        self.token = answer[0].decode() if answer else None
        self.in_vain = answer is None

    def drop_if_other(self, queues: Sequence[str]) -> None:
        """Give up waiting for what isn't served any more, or not for all of it."""
        if self.armed and self._keys != self._keys_of(queues):
            self.close()

    def drop_if_overdue(self, *, grace_s: float) -> None:
        """Give up a connection that is open at this end only."""
        if self.armed and self._clock() - self._armed_at > self._look_s + grace_s:
            log.warning("Redis didn't answer on %s for %.0f s; reconnecting", self.type, self._clock() - self._armed_at)
            self.close()

    def close(self) -> None:
        """Disconnect. The poller forgets the socket by kombu's own hook on the connection class."""
        self.armed = False
        if self.connection is not None:
            self.connection.disconnect()

    def _keys_of(self, queues: Sequence[str]) -> list[str]:
        return list(map(self._channel.session.keys.wake, heard_of(queues) or (NOBODYS,)))

    def _connect(self) -> None:
        if self.connection is None:
            self.connection = self._channel.async_pool.get_connection()
        self._channel.handlers[self.type] = self.read
        self._channel.connection.cycle._register(self._channel, self, self.type)

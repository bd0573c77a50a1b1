"""A blocking look at one queue: `BLMOVE` onto itself answers when there is a message, and takes nothing.

That is why nobody loses anything with a vanished machine's connection, which `BRPOP` hands messages to.
"""

# mypy: disallow-untyped-calls=False
# Kombu has no types.

import logging
from time import monotonic
from typing import Any

from redis import ResponseError

log = logging.getLogger(__name__)

PEEK_S = 1.0
"""Redis answers at the latest then. Also how late a message of a priority list is seen by an idle worker."""


class Peek:
    """One connection that looks at one queue. Armed: an answer is still to come. Only the event loop calls it.

    Stands where kombu's poller expects a client: it asks for `connection` and nothing else.
    """

    def __init__(self, channel: Any, queue: str) -> None:
        self.armed = False
        self.type = f"PEEK {queue}"
        self.connection: Any = None
        self._channel = channel
        self._key = channel.station.keys.queue(queue)
        self._armed_at = 0.0
        self._not_before = 0.0

    def arm(self) -> None:
        """Ask to be told of a message, unless Redis refused just now. Raises what kombu calls a connection error."""
        if monotonic() < self._not_before:
            return
        if self.connection is None or self.connection._sock is None:
            self._connect()
        self.connection.send_command("BLMOVE", self._key, self._key, "RIGHT", "RIGHT", PEEK_S)
        self.armed, self._armed_at = True, monotonic()

    def read(self) -> None:
        """Take the answer off the wire, whatever it is: the next take looks for itself."""
        self.armed = False
        try:
            self.connection.read_response(disable_decoding=True)
        except ResponseError as error:
            # A full or a read-only Redis refuses `BLMOVE`, which might write. Whether tasks can be taken is another
            # question: the take finds out, and the loop turns every second or two without us.
            log.debug("%s is refused: %s", self.type, error)
            self._not_before = monotonic() + PEEK_S

    def drop_if_overdue(self, *, grace_s: float) -> None:
        """Give up a connection that is open at this end only."""
        if self.armed and monotonic() - self._armed_at > PEEK_S + grace_s:
            log.warning("Redis didn't answer on %s for %.0f s; reconnecting", self.type, monotonic() - self._armed_at)
            self.close()

    def close(self) -> None:
        """Disconnect. The poller forgets the socket by kombu's own hook on the connection class."""
        self.armed = False
        if self.connection is not None:
            self.connection.disconnect()

    def _connect(self) -> None:
        if self.connection is None:
            params = self._channel._connparams(asynchronous=True)
            params.pop("max_connections", None)  # the pool's business; a peek has its own connection
            self.connection = params.pop("connection_class")(**params)
        self._channel.handlers[self.type] = self.read
        self._channel.connection.cycle._register(self._channel, self, self.type)

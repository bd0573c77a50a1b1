"""Kombu's poller, with a wait for tokens in the place of `BRPOP`. Without an event loop it is kombu's own."""

# mypy: disallow-untyped-calls=False
# Kombu has no types.

from collections.abc import Callable
from typing import Any

from kombu.transport.redis import MultiChannelPoller


class Poller(MultiChannelPoller):
    """Polls for the channels of one connection. `in_loop`: the event loop of a worker runs it."""

    in_loop = False

    def on_poll_init(self, poller: Any) -> None:
        """A worker has connected."""
        self.poller = poller
        self.in_loop = True
        for channel in self._channels:
            channel.agree()
            channel.session.connected()

    def on_poll_start(self) -> None:
        """One turn of the loop, before it waits."""
        if not self.in_loop:
            super().on_poll_start()
            return
        for channel in list(self._channels):
            channel.session.liveness.beat()
            channel.session.turn(channel.intake.serve)
            if channel.active_fanout_queues:
                self._register_LISTEN(channel)

    def on_readable(self, fileno: int) -> None:
        """A reply is there. In the loop it is read at once, room or not: a token is no task, and left on the wire
        it would spin the loop.
        """
        if not self.in_loop:
            super().on_readable(fileno)
            return
        channel, kind = self.fds.get(fileno, (None, ""))
        handler: Callable[[], object] | None = channel.handlers.get(kind) if channel else None
        if handler:
            handler()

"""Puts the transport in kombu's place, in this process. Only the worker process calls it, before it connects."""

from collections.abc import Callable
from typing import Any

from kombu.transport import redis as stock
from redis import Redis

from lowtide.config import Settings
from lowtide.tasks.store import connect
from lowtide.tasks.transport.channel import Channel
from lowtide.tasks.transport.moves import Moves
from lowtide.tasks.transport.poller import Poller
from lowtide.tasks.transport.pulse import Pulse
from lowtide.tasks.transport.station import Station
from lowtide.tasks.transport.touch import TOUCH_S, TOUCH_TIMEOUT_S, Toucher

_kombu: Any = stock  # whose classes are replaced
_toucher: Toucher | None = None


def install(
    *,
    settings: Settings,
    worker: str,
    seconds_per_request: Callable[[str], float],
    closed: Callable[[], bool] = lambda: False,
    touch_interval_s: float = TOUCH_S,
    redis: Redis | None = None,
) -> Pulse:
    """Make every `redis://` connection that this process opens from now on take tasks our way. Returns the pulse of
    its event loop.

    `worker` is `<host>:<slot>`, the same after a restart and of no other live process: whoever starts under a name
    gives back what the last one of that name held. While `closed()`, nothing is taken. It and
    `seconds_per_request(model)` are asked on Celery's loop and must not block. `redis`: by which it is said
    that what is held is held; who shares it must be as brief.
    """
    global _toucher  # one station a process is what a worker is
    uninstall()
    station = Station(settings=settings, worker=worker, seconds_per_request=seconds_per_request, closed=closed)
    _kombu.Transport.Channel = type("Channel", (Channel,), {"station": station})
    _kombu.MultiChannelPoller = Poller
    moves = Moves(redis or connect(settings, timeout_s=TOUCH_TIMEOUT_S, most=1), station.keys)
    _toucher = Toucher(moves, station.ledger, worker=worker, interval_s=touch_interval_s)
    _toucher.start()
    return station.pulse


def uninstall() -> None:
    """Put kombu's own back for connections to come, and stop touching. For tests; a worker simply ends."""
    global _toucher  # as above
    _kombu.Transport.Channel = stock.Channel
    _kombu.MultiChannelPoller = Poller.__base__
    if _toucher:
        _toucher.stop()
        _toucher = None

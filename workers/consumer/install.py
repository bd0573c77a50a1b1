"""Lets our app's connections take tasks, in this process. A worker calls it before it connects."""

from collections.abc import Callable
from typing import Any

from lowtide.config import Settings
from lowtide.tasks.chunks import publish
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.running import ownership
from lowtide.workers.consumer.channel import Channel
from lowtide.workers.consumer.loop_liveness import LoopLiveness
from lowtide.workers.consumer.poller import Poller
from lowtide.workers.consumer.session import WorkerSession
from lowtide.workers.consumer.wake import LOOK_S

_transport: Any = publish.Transport  # whose classes are replaced


def install(
    *,
    settings: Settings,
    heartbeat: Heartbeat,
    seconds_per_request: Callable[[str], float],
    predecessor: str | None = None,
    closed: Callable[[], bool] = lambda: False,
    look_s: float = LOOK_S,
    limit: Callable[[], int | None] = lambda: None,
) -> LoopLiveness:
    """Make every connection to Redis that our app opens in this process from now on take tasks. Returns the liveness of
    its event loop.

    Tasks are taken as long as `heartbeat` has this process registered. `predecessor`: an incarnation that is known to
    be dead; what it held goes back first. While `closed()`, nothing is taken, nor while as many tasks are held as
    `limit()` says. They and `seconds_per_request(model)` are asked on Celery's loop and must not block. Every `look_s`
    an idle worker looks for tasks that nobody woke it for.
    """
    session = WorkerSession(
        settings=settings,
        heartbeat=heartbeat,
        predecessor=predecessor,
        seconds_per_request=seconds_per_request,
        closed=closed,
        look_s=look_s,
        limit=limit,
    )
    _transport.Channel, _transport.Poller = type("Channel", (Channel,), {"session": session}), Poller
    ownership.decide_by(session.is_ours)
    return session.liveness


def uninstall() -> None:
    """Let connections to come only send. For tests; a worker simply ends."""
    _transport.Channel, _transport.Poller = publish.PublishingChannel, Poller.__base__
    ownership.decide_by(None)

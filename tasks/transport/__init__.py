"""The worker's Redis transport: takes tasks atomically and only when there is room, and gives back what is lost.

Comes in: lists that any stock Celery or kombu publisher filled. Goes out: tasks to Celery's pool, acknowledgements to
Redis; a vanished worker's tasks back to their lists. Next: the engine behind `lowtide.tasks.port`.

A worker process calls `install` before it connects, every bridge and worker runs a `Reaper`. Importing changes nothing
in kombu. The keys and formats are kombu's own, so Flower and stock publishers notice nothing. What doesn't work: a
stock Celery *worker* on the same prefix, since it doesn't touch what it holds, and the reaper would take that away.
"""

from lowtide.tasks.transport.install import install, uninstall
from lowtide.tasks.transport.pulse import Pulse
from lowtide.tasks.transport.reaper import Reaper

__all__ = ["Pulse", "Reaper", "install", "uninstall"]

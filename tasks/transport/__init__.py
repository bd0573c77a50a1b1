"""The worker's Redis transport: takes tasks atomically and only when there is room, and gives back what is lost.

Comes in: lists that any stock Celery or kombu publisher filled. Goes out: tasks to Celery's pool, acknowledgements to
Redis; a vanished worker's tasks back to their lists. Next: the engine behind `lowtide.tasks.port`. An idle worker waits
for a token (`lowtide.tasks.tokens`): who sends with our app pushes one, for other publishers `StockWatch` does.

A worker process calls `install` before it connects, every bridge and worker runs a `Sweeper`. Importing changes nothing
in kombu. Lists and messages are kombu's own, so Flower and stock publishers notice nothing. What is held or not due
lies in keys of ours, so stock workers of other queues notice nothing either, nor do we of what they hold.
"""

from lowtide.tasks.transport.install import install, uninstall
from lowtide.tasks.transport.pulse import Pulse
from lowtide.tasks.transport.stock_watch import StockWatch
from lowtide.tasks.transport.sweeper import Sweeper

__all__ = ["Pulse", "StockWatch", "Sweeper", "install", "uninstall"]

"""A stock Celery application at work on the same Redis, whose tasks take long."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from tests.drills import stock
from tests.drills.system import System
from tests.drills.verdict import Called
from tests.fleet import READY_S
from tests.waiting import until

TASKS = 8
LOOK_S = 0.2


class Tasks:
    """Those that were sent to the application."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def join(self) -> Called:
        """Wait for their end; what became of them."""
        until_s = time.monotonic() + READY_S + TASKS / stock.THREADS * stock.LASTS_S
        while len(self._numbers(stock.ENDED)) < TASKS and time.monotonic() < until_s:
            time.sleep(LOOK_S)
        lost = TASKS - len(self._numbers(stock.ENDED))
        twice = sum(count > 1 for count in self._numbers(stock.STARTED).values())
        return Called(asked=TASKS, lost=lost, twice=twice)

    def _numbers(self, key: str) -> Counter[int]:
        return Counter(map(int, self._redis.lrange(key, 0, -1)))


@contextmanager
def at_work(system: System) -> Iterator[Tasks]:
    """Its worker lives while the block runs, and has tasks."""
    redis = system.client
    redis.delete(stock.STARTED, stock.ENDED)
    system.fleet.start("neighbour", command=stock.COMMAND)
    app = stock.app_at(f"redis://127.0.0.1:{system.redis_port}/0")
    try:
        for number in range(TASKS):
            app.send_task(stock.WORK, (number,))
        until(lambda: redis.llen(stock.STARTED) == stock.THREADS, within_s=READY_S, what="the neighbour's start")
        yield Tasks(redis)
    finally:
        app.close()
        system.fleet.process("neighbour").stop()

"""A stock Celery application at work on the same Redis, whose tasks take long."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from tests.drills import stock
from tests.drills.system import System
from tests.fleet import READY_S, eventually

TASKS = 8


class Tasks:
    """Those that were sent to the application."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def join(self) -> None:
        """Wait for their end, and see that each has run once."""
        lasts_s = TASKS / stock.THREADS * stock.LASTS_S
        eventually(lambda: self._redis.llen(stock.ENDED) == TASKS, within_s=READY_S + lasts_s, what="all")
        numbers = sorted(int(number) for number in self._redis.lrange(stock.STARTED, 0, -1))
        assert numbers == list(range(TASKS)), f"not each of the neighbour's tasks ran once: {numbers}"


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
        eventually(lambda: redis.llen(stock.STARTED) == stock.THREADS, within_s=READY_S, what="the neighbour's start")
        yield Tasks(redis)
    finally:
        app.close()
        system.fleet.process("neighbour").stop()

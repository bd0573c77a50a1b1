"""A stock Celery application that uses the same Redis, with its own queue and tasks that take long.

As a program it is that application's worker; `at_work` starts it, and sends it tasks.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from redis import Redis

from tests.drills.system import System
from tests.fleet import READY_S, eventually

TASKS = 8
THREADS = 4
LASTS_S = 40.0
STARTED, ENDED = "neighbour:started", "neighbour:ended"


class Tasks:
    """Those that were sent to the application."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def join(self) -> None:
        """Wait for their end, and see that each has run once."""
        eventually(lambda: self._redis.llen(ENDED) == TASKS, within_s=READY_S + TASKS / THREADS * LASTS_S, what="all")
        numbers = sorted(int(number) for number in self._redis.lrange(STARTED, 0, -1))
        assert numbers == list(range(TASKS)), f"not each of the neighbour's tasks ran once: {numbers}"


@contextmanager
def at_work(system: System) -> Iterator[Tasks]:
    """Its worker lives while the block runs, and has tasks."""
    system.client.delete(STARTED, ENDED)
    system.fleet.start("neighbour", command=(sys.executable, "-W", "ignore", "-m", __name__))
    app = app_at(f"redis://127.0.0.1:{system.redis_port}/0")
    try:
        for number in range(TASKS):
            app.send_task("neighbour.work", (number,))
        eventually(lambda: system.client.llen(STARTED) == THREADS, within_s=READY_S, what="the neighbour's start")
        yield Tasks(system.client)
    finally:
        app.close()
        system.fleet.process("neighbour").stop()


def app_at(url: str) -> Celery:
    """As an application that never heard of us writes it."""
    app = Celery("neighbour", broker=url, set_as_current=False)
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)
    return app


def main() -> None:
    url = os.environ["LOWTIDE_REDIS_URL"]
    app = app_at(url)

    @app.task(name="neighbour.work", ignore_result=True)
    def work(number: int) -> None:
        with Redis.from_url(url) as redis:
            redis.rpush(STARTED, number)
            time.sleep(LASTS_S)
            redis.rpush(ENDED, number)

    app.worker_main(["worker", "-P", "threads", "-c", str(THREADS), "-l", "WARNING"])


if __name__ == "__main__":
    main()

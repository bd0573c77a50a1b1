"""A stock Celery application on the same Redis, with its own queue and transport. As a program, one of its workers."""

import os
import sys
import time

from celery import Celery
from redis import Redis, RedisError

THREADS = 4
LASTS_S = 40.0
WORK, ANSWER = "stock.work", "stock.answer"
"""A task that takes long, and one that does nothing but note its number."""
STARTED, ENDED, ANSWERS = "stock:started", "stock:ended", "stock:answers"
"""Lists of numbers."""
VISIBILITY_S = 60
"""Kombu's hour is longer than a drill waits: what a killed worker held would count as lost, and come back."""
COMMAND = (sys.executable, "-W", "ignore", "-m", "tests.drills.stock")


def app_at(url: str) -> Celery:
    """As an application that never heard of us writes it: late acknowledgement, and no more than it can do."""
    app = Celery("stock", broker=url, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={"visibility_timeout": VISIBILITY_S},
    )
    return app


def main() -> None:
    url = os.environ["LOWTIDE_REDIS_URL"]
    app, redis = app_at(url), Redis.from_url(url)

    @app.task(name=WORK)
    def work(number: int) -> None:
        redis.rpush(STARTED, number)
        time.sleep(LASTS_S)
        redis.rpush(ENDED, number)

    @app.task(name=ANSWER, autoretry_for=(RedisError,), retry_backoff=1, max_retries=None)
    def answer(number: int) -> None:
        redis.rpush(ANSWERS, number)

    app.worker_main(["worker", "-P", "threads", "-c", str(THREADS), "-l", "WARNING"])


if __name__ == "__main__":
    main()

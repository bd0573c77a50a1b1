"""A worker process with our consumer, and tasks without a model. Settings: the environment's."""

import os
import time
from contextlib import suppress

from celery import Task
from celery.exceptions import Reject
from celery.signals import worker_ready, worker_shutting_down
from redis import RedisError

from lowtide.config import load_settings
from lowtide.tasks.app import App, celery_config
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.tasks.queues import worker_queues
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.waking.queue_watch import QueueWatch
from lowtide.workers.consumer.install import install
from lowtide.workers.consumer.listening import Listening

MODEL = "m"
WORK_S = {"m": float(os.environ.get("BARE_WORK_S", "0"))}

settings = load_settings()
redis = connect(settings)
SLOT = f"slot:{settings.worker_slot}"
"""In the place of the file that a worker locks: here no two of a slot live at once."""
app = App("bare", set_as_current=False)
app.conf.update({**celery_config(settings), "task_routes": ()})
app.conf.task_create_missing_queues = True
app.conf.worker_send_task_events = False


class Ours(Task):
    """Received as our own tasks are."""

    Strategy = "lowtide.workers.consumer.receive:strategy"
    Request = "lowtide.workers.consumer.receive:Request"


@app.task(name="record", bind=True, base=Ours, ignore_result=True)
def record(self, key: str, value: str, seconds: float = 0.0) -> None:
    redis.rpush(f"started:{key}", value)
    time.sleep(seconds)
    redis.rpush(key, value)


@app.task(name="hold", base=Ours, ignore_result=True)
def hold(key: str, value: str) -> None:
    """Runs until the test lets it go, also while Redis is away."""
    redis.rpush(f"started:{key}", value)
    gone = None
    while gone is None:
        time.sleep(0.05)
        with suppress(RedisError):
            gone = redis.lpop(f"go:{key}")
    redis.rpush(key, value)


@app.task(name="answer", bind=True)
def answer(self, key: str, value: str) -> str:
    redis.rpush(key, value)
    return value


@app.task(name="refuse", bind=True, ignore_result=True)
def refuse(self, key: str, value: str) -> None:
    """Hands itself back once, and then tells how many losses were counted: they are forgotten when it is done."""
    if redis.rpush(f"refused:{key}", value) == 1:
        raise Reject("not now", requeue=True)
    redis.rpush(f"losses:{key}", redis.get(Keys.of(settings).loss(self.request.id)) or "unknown")
    redis.rpush(key, value)


@app.task(name="noop", ignore_result=True)
def noop() -> None: ...


@worker_ready.connect(weak=False)
def ready(**_: object) -> None:
    redis.rpush("ready", os.getpid())


@worker_shutting_down.connect(weak=False)
def stopping(**_: object) -> None:
    redis.rpush("stopping", os.getpid())


def main() -> None:
    beat_s = float(os.environ.get("BARE_BEAT_S", "0.2"))
    heartbeat = Heartbeat(
        connect(settings),
        Keys.of(settings),
        kind="worker",
        on_registered=lambda incarnation: redis.set(SLOT, incarnation),
        interval_s=beat_s,
    )
    install(
        settings=settings,
        heartbeat=heartbeat,
        predecessor=redis.get(SLOT).decode() if redis.exists(SLOT) else None,
        seconds_per_request=lambda model: WORK_S.get(model, 0.0),
        look_s=float(os.environ.get("BARE_LOOK_S", "1")),
    )
    heartbeat.start()
    if quiet_s := float(os.environ.get("BARE_QUIET_S", "0")):
        sweeping, keys = connect(settings), Keys.of(settings)
        Sweeper(sweeping, keys, queue_watch=QueueWatch(sweeping, keys, [MODEL]), quiet_s=quiet_s).start()
    Listening(worker_queues([MODEL]), patience_s=float(os.environ.get("BARE_PATIENCE_S", "1"))).install(app)
    queues = ",".join((*worker_queues([MODEL]), "other"))
    arguments = ["worker", "-P", "threads", "-c", str(settings.threads), "-Q", queues]
    name = f"w{settings.worker_slot}@test"
    app.worker_main([*arguments, "--without-gossip", "--without-mingle", "-l", "WARNING", "-n", name])


if __name__ == "__main__":
    main()

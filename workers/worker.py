"""The worker process: a Celery worker with a pool of threads in front of the engine. Wires the parts by hand."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import torch
from celery import Celery, signals
from redis import Redis

from lowtide.config import Settings
from lowtide.config.process.health import Health, HealthServer
from lowtide.config.process.leave import leave, leave_after
from lowtide.config.process.preemption import Preemption, wait_while_announced
from lowtide.tasks import port
from lowtide.tasks.app import configure
from lowtide.tasks.held.heartbeat import BEAT_S, BEAT_TIMEOUT_S, Heartbeat
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.tasks.queues import worker_queues
from lowtide.tasks.redis import protocol
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import NODE
from lowtide.tasks.redis.rights import Rights
from lowtide.tasks.running.gate import GATE
from lowtide.tasks.waking.queue_watch import QueueWatch
from lowtide.workers.consumer import results
from lowtide.workers.consumer.consumer import Consumer
from lowtide.workers.consumer.install import install
from lowtide.workers.consumer.listening import Listening
from lowtide.workers.consumer.loop_liveness import LoopLiveness
from lowtide.workers.consumer.receive import leave_unquoted
from lowtide.workers.content.fetch import Fetcher, sources
from lowtide.workers.device.devices import devices_of
from lowtide.workers.device.runner import Runner
from lowtide.workers.drain import Drain
from lowtide.workers.engine.engine import PipelineEngine
from lowtide.workers.models.registry import build_models
from lowtide.workers.rate_teller import RateTeller
from lowtide.workers.slot import Slot, claimed_slot
from lowtide.workers.start_times import StartTimes
from lowtide.workers.suspicion.guard import Guard
from lowtide.workers.suspicion.peers import Peers
from lowtide.workers.suspicion.standing import Standing
from lowtide.workers.suspicion.tally import OutcomeTally
from lowtide.workers.watchdog import EXIT_STUCK, Watchdog, end_process

log = logging.getLogger(__name__)

LAST_S = 4.0
"""After the grace: to hand back. A Redis that doesn't answer must not take longer."""


class Part(Protocol):
    """A thread beside Celery's."""

    def start(self) -> None:
        """Once, before Celery runs."""

    def stop(self) -> object:
        """After Celery, in the opposite order. Idempotent."""


def run_worker(settings: Settings) -> int:
    """Serve the fleet's models until SIGTERM or Ctrl-C; returns the exit code, 0 after a drain. Main thread only.

    Raises SettingsError, and whatever a model's `load` raises. The process ends by itself, with another code, when it
    is stuck or a device is lost. Logging is the caller's.
    """
    start = StartTimes()
    # Until Celery's handlers are in place nothing is held, and a stop while models load is a clean one, too. Python's
    # own way out would fail on a thread that is inside torch.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    wait_while_announced(settings)
    rights = Rights(settings)
    rights.wait()
    protocol.wait(settings)
    start.redis_answered()
    with claimed_slot(settings) as slot:
        return _serve(settings, rights, slot, start)


def load_models(settings: Settings) -> None:
    """Load every model on the CPU, and try those that have an `example` there: weights that had to be downloaded are
    in the cache afterwards.

    Raises SettingsError, and whatever a model's `load` or `predict` raises.
    """
    cpu = torch.device("cpu")
    for model in build_models(settings).values():
        model.load(cpu)
        Runner(cpu).probe(model)
        log.info("model %s %s is there", model.name, model.version)


def _serve(settings: Settings, rights: Rights, slot: Slot, start: StartTimes) -> int:
    standing = Standing(OutcomeTally())
    engine = create_engine(settings, standing)
    engine.start()
    start.models_loaded(warm_up_s=engine.warm_up_s)
    port.plug(engine)
    listening = Listening(worker_queues(settings.model_names), patience_s=settings.stuck_after_s)
    drain = Drain(lambda: _close(engine, patience, settings.grace_s))
    # A client of its own, since a heartbeat must never be late: it waits for the short steps of a sweep at most.
    beating = connect(settings, timeout_s=BEAT_TIMEOUT_S, most=1)
    heartbeat = Heartbeat(
        beating,
        Keys.of(settings),
        kind="worker",
        status=WorkerStatus(settings, engine, standing, listening, drain, slot=slot.name).say,
        models=settings.model_names,
        on_registered=slot.note,
    )
    liveness = install(
        settings=settings,
        heartbeat=heartbeat,
        predecessor=slot.predecessor,
        seconds_per_request=engine.seconds_per_request,
        closed=lambda: GATE.closed,
        limit=standing.limit,
    )
    app = configure(settings)
    app.conf.worker_consumer = type("Consumer", (Consumer,), {"rights": rights})
    listening.install(app)
    patience = results.install(app)
    drain.start()
    watchdog = Watchdog(engine, liveness, stuck_after_s=settings.stuck_after_s)
    health = partial(health_of, engine, liveness, standing, listening, start)
    parts = parts_beside(settings, app.backend.client, health, engine, standing)
    keys = Keys.of(settings)
    guard = Guard(standing, Peers(app.backend.client, keys, lambda: heartbeat.incarnation), hand_back=engine.hand_back)
    queue_watch = QueueWatch(beating, keys, settings.model_names)
    with running([watchdog, guard, *parts, Sweeper(beating, keys, queue_watch=queue_watch), heartbeat]):
        code = _run_celery(app, settings, slot=slot.name, on_ready=start.ready)
        drain.join()
    code = EXIT_STUCK if watchdog.gave_up else code
    if not engine.close(0.0):
        log.warning("a thread is still busy with a request that was handed back: leaving it behind")
        leave(code)
    return code


def _close(engine: PipelineEngine, patience: results.Patience, grace_s: float) -> None:
    """Finish what fits into the grace; what is finished may use all of it to be stored."""
    leave_after(grace_s + LAST_S, code=0)
    patience.end(after_s=grace_s)
    engine.close(grace_s)


def create_engine(settings: Settings, standing: Standing) -> PipelineEngine:
    """The engine on this machine's devices, each with models of its own. Raises SettingsError."""
    return PipelineEngine(
        settings,
        devices={device: build_models(settings) for device in devices_of(settings.device)},
        fetcher=Fetcher(sources(settings), timeout_s=settings.fetch_timeout_s),
        standing=standing,
        on_broken=lambda error: end_process(str(error)),
    )


def parts_beside(
    settings: Settings, redis: Redis, health: Callable[[], Health], engine: PipelineEngine, standing: Standing
) -> list[Part]:
    """The threads that report what is not urgent, over the connections by which results are stored. What a suspect
    worker measures says nothing of the fleet.
    """
    keys = Keys.of(settings)
    parts: list[Part] = [
        Preemption(settings),
        RateTeller(redis, keys, lambda: {} if standing.reason else engine.rates),
    ]
    if settings.health_port:
        parts.append(HealthServer(health, address=settings.health_address, port=settings.health_port))
    return parts


class WorkerStatus:
    """What a worker says of itself with every heartbeat."""

    def __init__(
        self,
        settings: Settings,
        engine: PipelineEngine,
        standing: Standing,
        listening: Listening,
        drain: Drain,
        *,
        slot: str,
    ) -> None:
        self._name = f"{socket.gethostname()}:{slot}:{os.getpid()}"
        self._settings = settings
        self._engine = engine
        self._standing = standing
        self._listening = listening
        self._drain = drain
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")

    def say(self) -> dict[str, Any]:
        """JSON-ready."""
        activity = self._engine.progress()
        return {
            "name": self._name,
            "models": list(self._settings.model_names),
            "devices": [str(device) for device in self._engine.devices],
            "rates": self._engine.rates,
            "busy": activity.has_work,
            "draining": self._drain.has_begun,
            "deaf_to": list(self._listening.deaf_to),
            "suspect": self._standing.reason,
            "outcomes": self._standing.outcomes,
            "in_process": activity.in_process,
            "running": dict(activity.running),
            "done": dict(activity.done),
            "batches": dict(activity.batches),
            "retrying": asdict(activity.retrying) if activity.retrying else None,
            "started_at": self._started_at,
        }


def health_of(
    engine: PipelineEngine, liveness: LoopLiveness, standing: Standing, listening: Listening, start: StartTimes
) -> Health:
    """Ill when the engine or Celery's loop is stuck, or when the worker is suspect. That it is deaf to a queue is told,
    and no illness: it mends by itself.
    """
    stuck, suspect, activity = engine.stuck() or liveness.stuck(), standing.reason, engine.progress()
    details: dict[str, Any] = {
        "in_process": activity.in_process,
        "done": dict(activity.done),
        "start": start.to_wire(),
    }
    if listening.deaf_to:
        details["deaf_to"] = list(listening.deaf_to)
    reason = stuck or suspect
    return Health(ok=reason is None, reason=reason or "", ill="stuck" if stuck else "suspect", details=details)


@contextlib.contextmanager
def running(parts: list[Part]) -> Iterator[None]:
    """Start the parts, and stop them the other way round, however the block ends."""
    with contextlib.ExitStack() as stack:
        for part in parts:
            part.start()
            stack.callback(part.stop)
        yield


def _run_celery(app: Celery, settings: Settings, *, slot: str, on_ready: Callable[[], None]) -> int:
    signals.setup_logging.connect(_leave_logging_alone, weak=False)
    signals.worker_ready.connect(lambda **_: on_ready(), weak=False)
    leave_unquoted(app)
    worker = app.Worker(
        hostname=f"{NODE}{socket.gethostname()}-{slot}",
        pool="threads",
        concurrency=settings.threads,
        queues=list(worker_queues(settings.model_names)),
        prefetch_multiplier=1,
        task_events=True,
        heartbeat_interval=BEAT_S,  # Celery's own, for Flower
        without_gossip=True,
        without_mingle=True,
        redirect_stdouts=False,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _leave_logging_alone(**_: Any) -> None:
    """Celery sets up no logging when somebody listens to this signal."""

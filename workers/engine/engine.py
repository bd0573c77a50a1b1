"""The engine behind `tasks.port`: fetch → decode → batch → predict → encode, on every device of the machine.

The stages are threads that meet in bounded queues; each has a file of its own. What passes between them is in `job`.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from lowtide.config import Settings
from lowtide.config.process.health import Progress
from lowtide.tasks.errors import EngineStopped
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.workers.content.fetch import Fetcher
from lowtide.workers.device.predict import DeviceBroken
from lowtide.workers.device.rates import Rates
from lowtide.workers.device.thread import DeviceThread
from lowtide.workers.engine import outcomes
from lowtide.workers.engine.ahead import SHARE, fetch_ahead
from lowtide.workers.engine.bounded_queue import BoundedQueue
from lowtide.workers.engine.decoding import DecodeThreads
from lowtide.workers.engine.encoding import EncodeThreads
from lowtide.workers.engine.fetching import FetchThreads
from lowtide.workers.engine.in_process import InProcess
from lowtide.workers.engine.job import Fetched, Job, Overdue, Predicted, Running
from lowtide.workers.engine.ready_pool import ReadyPool
from lowtide.workers.engine.retries import Retrying
from lowtide.workers.model import Model
from lowtide.workers.suspicion.standing import Standing

log = logging.getLogger(__name__)

BATCHES_AHEAD = 3
"""Batches of decoded items that wait per device: one to take next, the others for the unevenness of decoding."""

JOIN_S = 1.0
"""For the threads to notice that the engine closed, all together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What an engine is doing. Times are monotonic seconds. `running`: requests on its devices, by model; `done` and
    `batches` count since it was made. `retrying`: what failed lately so that another try may help.
    """

    has_work: bool
    moved_s: float
    in_process: int
    running: Mapping[str, int]
    done: Mapping[str, int]
    batches: Mapping[str, int]
    retrying: Retrying | None


class PipelineEngine:
    """`start` → `submit`… → `close`. Safe to call from any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        devices: Mapping[torch.device, Mapping[str, Model]],
        fetcher: Fetcher,
        standing: Standing,
        on_broken: Callable[[DeviceBroken], None],
    ) -> None:
        """`devices`: each with models of its own, the same names everywhere. `on_broken` must end the process."""
        self._standing = standing
        self._models = next(iter(devices.values()))
        self._rates = Rates(self._models)
        self._progress = Progress(stuck_after_s=settings.stuck_after_s)
        self._in_process = InProcess(self._progress, note=standing.note)
        # Earlier than stuck: who is to blame should be told while somebody can tell it.
        self._deadline_s = min(settings.batch_deadline_s, settings.stuck_after_s)
        self._jobs: BoundedQueue[Job] = BoundedQueue(capacity=math.inf)
        self._fetched: BoundedQueue[Fetched] = BoundedQueue(capacity=2 * settings.decode_threads)
        self._predicted: BoundedQueue[Sequence[Predicted]] = BoundedQueue(capacity=2 * len(devices))
        ahead = BATCHES_AHEAD * settings.batch_max_requests * len(devices)
        self._ready = ReadyPool(capacity=ahead, wait_s=settings.batch_wait_s)
        self._devices = [self._device_thread(settings, *pair, on_broken) for pair in devices.items()]
        fetching = FetchThreads(fetcher, jobs=self._jobs, fetched=self._fetched, in_process=self._in_process)
        decoding = DecodeThreads(
            settings.decode_threads,
            models=self._models,
            fetched=self._fetched,
            ready=self._ready,
            in_process=self._in_process,
            content_max_bytes=settings.content_max_bytes,
            memory_bytes=settings.decode_memory_bytes,
        )
        encoding = EncodeThreads(
            models=self._models,
            predicted=self._predicted,
            in_process=self._in_process,
            result_max_bytes=settings.result_max_bytes,
        )
        self._crews = (fetching.crew, decoding.crew, encoding.crew)
        self._ahead_bytes = SHARE * settings.decode_memory_bytes
        self._taking = False
        self._taking_lock = threading.Lock()
        self._closing = threading.Lock()

    def start(self) -> None:
        """Load the models, one device after the other, then take requests. Raises what a model's `load` raises."""
        for device in self._devices:
            device.start()
        for crew in self._crews:
            crew.start()
        self._taking = True

    def submit(self, requests: Sequence[InferenceRequest]) -> Sequence[Future[Outcome]]:
        """One future per request, in order. Never waits: a task's requests are in memory already, and how many tasks
        there are is decided before they are taken.
        """
        return self._take(requests)

    def fetch(self, requests: Sequence[InferenceRequest]) -> Sequence[InferenceRequest | Outcome]:
        """The requests with their content, as many as there is memory for; of one that fails, its outcome. Waits. The
        bound is of one call. Raises EngineStopped.
        """
        return fetch_ahead(requests, partial(self._take, ahead=True), max_bytes=self._ahead_bytes)

    def seconds_per_request(self, model: str) -> float:
        """Measured seconds of device time per request of `model`; a guess before the first batches."""
        return self._rates.request_s(model)

    @property
    def rates(self) -> dict[str, float]:
        """Model → seconds of device time per request, of those that have been measured."""
        return self._rates.measured()

    @property
    def warm_up_s(self) -> float:
        """How much of its start were the first batches of the models, on all devices."""
        return sum(device.warm_up_s for device in self._devices)

    @property
    def devices(self) -> list[torch.device]:
        """The devices that it runs on."""
        return [thread.device for thread in self._devices]

    def progress(self) -> Activity:
        """What the engine is doing."""
        return Activity(
            has_work=len(self._in_process) > 0,
            moved_s=self._progress.moved_s,
            in_process=len(self._in_process),
            running=Counter(ready.job.request.model for run in self._at() for ready in run.items),
            done=self._in_process.done,
            batches=dict(sum((device.fired.copy() for device in self._devices), Counter[str]())),
            retrying=self._in_process.retrying,
        )

    def stuck(self) -> str | None:
        """What gets nowhere although there is work, as a sentence; None as a rule. Ask every few seconds."""
        now_s = time.monotonic()
        if self._progress.stuck(now_s, len(self._in_process) > 0):
            return f"no request has ended for {now_s - self._progress.moved_s:.0f} s, {len(self._in_process)} wait"
        return None

    def overdue(self) -> Overdue | None:
        """What a device, or a thread that decodes or encodes, has been at for too long; None as a rule. Ask every
        second.
        """
        now_s = time.monotonic()
        for run in self._at():
            if (spent_s := now_s - run.started_s) > self._deadline_s:
                return _overdue_batch(run, spent_s)
        for crew in self._crews:
            if (longest := crew.longest()) and (spent_s := now_s - longest[0]) > self._deadline_s:
                return _overdue_alone(crew.name, longest[1], spent_s)
        return None

    def give_up(self, overdue: Overdue) -> None:
        """End, because `overdue` does not: alone a request is to blame, and fails; of several nobody knows which, and
        they go back as implicated. Everything else goes back as if nothing had been.
        """
        if overdue.outcome:
            self._in_process.resolve(overdue.jobs[0], overdue.outcome)
        else:
            self._in_process.hand_back(overdue.jobs, implicated=True)
        self.close(0.0)

    def hand_back(self) -> None:
        """Hand back what is in process, and go on."""
        self._in_process.abandon("this worker is suspect")

    def close(self, grace_s: float) -> bool:
        """Take no more, finish what fits into `grace_s`, hand the rest back, let the threads go. Idempotent; a second
        caller waits for the first. False when a thread is still inside a model or a download, which nothing can end.
        """
        with self._closing:
            # First, so that nothing comes in behind what is finished.
            with self._taking_lock:
                taking, self._taking = self._taking, False
            if not taking:
                return self._join(0.0)
            started_s = time.monotonic()
            self._ready.drain(started_s + grace_s)
            finished = self._in_process.wait_empty(grace_s)
            # Before the queues drop anything: what is dropped has been handed back.
            handed_back = 0 if finished else self._in_process.abandon()
            self._close_lanes()
            log.info("engine closed in %.1f s, %d requests handed back", time.monotonic() - started_s, handed_back)
            return self._join(JOIN_S)

    def _take(self, requests: Sequence[InferenceRequest], *, ahead: bool = False) -> Sequence[Future[Any]]:
        arrived_s = time.monotonic()
        jobs = [self._job(request, arrived_s, ahead=ahead) for request in requests]
        with self._taking_lock:
            if self._taking and not self._standing.refuses():
                self._in_process.add(jobs)
                self._sort_in(jobs)
                return [job.future for job in jobs]
        for job in jobs:
            job.future.set_exception(EngineStopped("the worker is stopping, or suspect"))
        return [job.future for job in jobs]

    def _at(self) -> list[Running]:
        """What the devices are at now."""
        return [run for device in self._devices if (run := device.running)]

    def _job(self, request: InferenceRequest, arrived_s: float, *, ahead: bool) -> Job:
        model = self._models.get(request.model)
        return Job(
            request=request,
            future=Future(),
            arrived_s=arrived_s,
            expires_s=_expires_s(request, arrived_s),
            version=model.version if model else "",
            ahead=ahead,
        )

    def _sort_in(self, jobs: Sequence[Job]) -> None:
        known: list[Job] = []
        for job in jobs:
            if job.request.model in self._models:
                known.append(job)
            else:
                self._in_process.resolve(job, outcomes.unknown_model(job.request.model, sorted(self._models)))
        for urgent in (True, False):
            alike = [job for job in known if job.urgent is urgent]
            self._jobs.add([job for job in alike if job.request.uri is not None], urgent=urgent)
            self._fetched.add([Fetched(job=job) for job in alike if job.request.uri is None], urgent=urgent)

    def _close_lanes(self) -> None:
        self._jobs.close()
        self._fetched.close()
        self._ready.close()
        self._predicted.close()

    def _join(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        crews = (*self._crews, *(device.crew for device in self._devices))
        busy = [crew for crew in crews if not crew.join(until_s)]
        return not busy

    def _device_thread(
        self,
        settings: Settings,
        device: torch.device,
        models: Mapping[str, Model],
        on_broken: Callable[[DeviceBroken], None],
    ) -> DeviceThread:
        return DeviceThread(
            device,
            models,
            batch_max=settings.batch_max_requests,
            rates=self._rates,
            ready=self._ready,
            predicted=self._predicted,
            in_process=self._in_process,
            on_broken=on_broken,
        )


def _overdue_batch(run: Running, spent_s: float) -> Overdue:
    jobs = tuple(ready.job for ready in run.items)
    outcome = outcomes.timed_out(run.items[0], batch_s=spent_s) if len(jobs) == 1 else None
    return Overdue(jobs=jobs, what=f"a batch of {len(jobs)} has not ended in time", outcome=outcome)


def _overdue_alone(stage: str, job: Job, spent_s: float) -> Overdue:
    what = f"a thread of {stage} has been at one request for {spent_s:.0f} s"
    return Overdue(jobs=(job,), what=what, outcome=outcomes.never_out_of(stage, job, spent_s=spent_s))


def _expires_s(request: InferenceRequest, now_s: float) -> float:
    if request.expires_at is None:
        return math.inf
    return now_s + (request.expires_at - datetime.now(UTC)).total_seconds()

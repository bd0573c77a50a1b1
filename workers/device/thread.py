"""The thread of one device: loads and probes its models, then runs batch after batch."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import torch

from lowtide.workers.device import devices
from lowtide.workers.device.predict import DeviceBroken, Predictor
from lowtide.workers.device.rates import Rates
from lowtide.workers.engine import outcomes
from lowtide.workers.engine.batch import Batch
from lowtide.workers.engine.bounded_queue import BoundedQueue
from lowtide.workers.engine.crew import Crew
from lowtide.workers.engine.in_process import InProcess
from lowtide.workers.engine.job import Predicted, Running
from lowtide.workers.engine.ready_pool import ReadyPool
from lowtide.workers.model import Model

log = logging.getLogger(__name__)


class DeviceThread:
    """Its thread ends when the `ReadyPool` is closed."""

    def __init__(
        self,
        device: torch.device,
        models: Mapping[str, Model],
        *,
        batch_max: int,
        rates: Rates,
        ready: ReadyPool,
        predicted: BoundedQueue[Sequence[Predicted]],
        in_process: InProcess,
        on_broken: Callable[[DeviceBroken], None],
    ) -> None:
        self.device = device
        self.fired: Counter[str] = Counter()
        self.warm_up_s = 0.0
        """What the probes of its models took: their first batches, which load kernels. Final once it is started."""
        self._models = models
        self._rates = rates
        self._predictor = Predictor(device, models, batch_max=batch_max, rates=rates)
        self._ready = ready
        self._predicted = predicted
        self._in_process = in_process
        self._on_broken = on_broken
        self._loaded: Future[None] = Future()
        self.crew = Crew(f"device-{device}", 1, self._run)

    def start(self) -> None:
        """Load and probe the models, and raise what that raises; then run batches."""
        self.crew.start()
        self._loaded.result()

    @property
    def running(self) -> Running | None:
        """What it is at now. From any thread."""
        return self._predictor.running

    def _run(self) -> None:
        devices.enter(self.device)
        try:
            self._load()
        except BaseException as error:  # noqa: BLE001 - raised again where `start` waits
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(None)
        try:
            with torch.inference_mode():
                self._run_batches()
        except DeviceBroken as error:
            self._on_broken(error)
        except BaseException as error:  # the thread's outermost loop: without it nothing would run on the device
            log.exception("the thread of %s failed", self.device)
            self._on_broken(DeviceBroken(f"nothing runs on {self.device} any more: {error!r}"))

    def _load(self) -> None:
        for model in self._models.values():
            started_s = time.monotonic()
            model.load(self.device)
            loaded_s = time.monotonic()
            self._predictor.probe(model)
            ended_s = time.monotonic()
            self.warm_up_s += ended_s - loaded_s
            took_s = ended_s - started_s
            log.info("model %s %s loaded on %s in %.1f s", model.name, model.version, self.device, took_s)

    def _run_batches(self) -> None:
        while (batch := self._ready.take(most=self._predictor.most, batch_s=self._rates.batch_s)) is not None:
            self._run_batch(batch)

    def _run_batch(self, batch: Batch) -> None:
        for late in batch.expired:
            outcome = outcomes.expired(late.job, fetch_s=late.fetch_s, decode_s=late.decode_s)
            self._in_process.resolve(late.job, outcome)
        if self._ready.too_late_for(self._rates.batch_p95_s(batch.model)):
            self._in_process.hand_back([ready.job for ready in batch.ready])
        elif batch.ready:
            self.fired[batch.fired] += 1
            self._predicted.put(self._predictor.predict(self._models[batch.model], batch.ready))

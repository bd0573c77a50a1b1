"""One batch on one device: predict, and when that fails find out whose fault it is.

A batch that raises is bisected until the culprit is alone; out of memory halves it and the ceiling is remembered. A
batch whose outputs can't be told apart fails as a whole: a smaller one may look right by chance.
"""

import logging
import time
from collections.abc import Mapping, Sequence

import torch

from lowtide.tasks.errors import LowtideError
from lowtide.tasks.wire.outcome import RequestError
from lowtide.workers.device import devices
from lowtide.workers.device.outputs import Outputs, WrongOutputs
from lowtide.workers.device.rates import Rates
from lowtide.workers.device.runner import Runner
from lowtide.workers.engine.job import Predicted, Ready, Running
from lowtide.workers.model import Model

log = logging.getLogger(__name__)

OUT_OF_MEMORY = "out_of_memory"


class DeviceBroken(LowtideError):
    """Raised when a device's context is lost, or nothing runs on it any more: the process has to end, so that a fresh
    one takes over.
    """


class Predictor:
    """The models of one device. Use from the device's own thread; `most` and `running` from any."""

    def __init__(self, device: torch.device, models: Mapping[str, Model], *, batch_max: int, rates: Rates) -> None:
        self._device = device
        self._models = models
        self._most = dict.fromkeys(models, batch_max)
        self._rates = rates
        self._runner = Runner(device)
        self._warm: set[str] = set()
        self.running: Running | None = None
        """What the device is at now. Read from any thread."""

    def most(self, model: str) -> int:
        """The most items of `model` that fit on the device, as far as is known."""
        return self._most[model]

    def probe(self, model: Model) -> None:
        """Raises WrongOutputs when the model's own example shows that its outputs are wrong."""
        self._runner.probe(model)

    def predict(self, model: Model, items: Sequence[Ready]) -> list[Predicted]:
        """An output or an error for every item, in order. Raises DeviceBroken."""
        most = self._most[model.name]
        predicted = self._predict(model, items)
        if self._most[model.name] < most:
            self._judge_ceiling(model.name, predicted, most)
        return predicted

    def _predict(self, model: Model, items: Sequence[Ready]) -> list[Predicted]:
        started_s = time.monotonic()
        self.running = Running(items=tuple(items), started_s=started_s)
        try:
            outputs = self._runner.run(model, [ready.item for ready in items])
        except BaseException as error:  # noqa: BLE001 - a model is somebody else's code: it may raise anything
            failure = error.with_traceback(None)  # the frames hold the tensors, which a smaller batch needs freed
        else:
            return self._succeeded(model, items, outputs, batch_s=time.monotonic() - started_s)
        finally:
            self.running = None
        return self._failed(model, items, failure, time.monotonic() - started_s)

    def _succeeded(self, model: Model, items: Sequence[Ready], outputs: Outputs, *, batch_s: float) -> list[Predicted]:
        if model.name in self._warm:
            self._rates.learn(model.name, n=len(items), batch_s=batch_s)
        # The first batch of a process pays for kernels being loaded and tuned: it says nothing of the next.
        self._warm.add(model.name)
        return [
            Predicted(
                ready=ready,
                output=None if index in outputs.not_finite else output,
                error=_not_finite(model) if index in outputs.not_finite else None,
                batch_s=batch_s,
                n=len(items),
            )
            for index, (ready, output) in enumerate(zip(items, outputs.items, strict=True))
        ]

    def _failed(self, model: Model, items: Sequence[Ready], error: BaseException, batch_s: float) -> list[Predicted]:
        if devices.broken(error):
            raise DeviceBroken(f"{self._device} is lost: {error}") from error
        short = devices.out_of_memory(error)
        if short:
            devices.free_memory(self._device)
        if len(items) == 1 or isinstance(error, WrongOutputs):
            if len(items) > 1:
                log.warning("a batch of %d fails: %s", len(items), error)
            blame = _blame(model, error, short=short)
            return [Predicted(ready=ready, batch_s=batch_s, n=len(items), error=blame) for ready in items]
        half = (len(items) + 1) // 2
        if short:
            self._lower(model.name, half)
        else:
            log.warning("model %s failed on a batch of %d, bisecting: %r", model.name, len(items), error)
        return self._in_pieces(model, items, most=half)

    def _in_pieces(self, model: Model, items: Sequence[Ready], *, most: int) -> list[Predicted]:
        predicted: list[Predicted] = []
        while items:
            # The ceiling may come down while the first pieces run.
            size = min(most, self._most[model.name])
            predicted += self._predict(model, items[:size])
            items = items[size:]
        return predicted

    def _judge_ceiling(self, model: str, predicted: Sequence[Predicted], before: int) -> None:
        """A request that runs out of memory alone brought the ceiling down for all: it says nothing of the size of
        batches. Was the batch too large as well, then the next one finds that out. When nothing fits, memory is short.
        """
        fitted = [one.error is None or one.error.type != OUT_OF_MEMORY for one in predicted]
        if any(fitted) and not all(fitted):
            log.warning("model %s: one request was too much by itself, up to %d at once again", model, before)
            self._most[model] = before

    def _lower(self, model: str, most: int) -> None:
        if most < self._most[model]:
            log.warning("model %s: out of memory on %s, at most %d at once from now on", model, self._device, most)
            self._most[model] = most


def _not_finite(model: Model) -> RequestError:
    return RequestError(type="model_error", message=f"model {model.name}: its output has NaN or infinity in it")


def _blame(model: Model, error: BaseException, *, short: bool) -> RequestError:
    said = str(error)
    if short:
        message = f"model {model.name} runs out of memory on this request alone: {said}"
        return RequestError(type=OUT_OF_MEMORY, message=message)
    if isinstance(error, WrongOutputs):  # says which model
        return RequestError(type="model_error", message=said)
    return RequestError(type="model_error", message=f"model {model.name} raised {type(error).__name__}: {said}")

"""The threads that encode: outputs become JSON-ready values, and the request's future is resolved."""

from collections.abc import Mapping, Sequence

import torch

from lowtide.tasks.errors import ContentError, InvalidRequest
from lowtide.tasks.wire.outcome import Outcome, RequestError
from lowtide.workers.device.devices import spare_the_cores
from lowtide.workers.device.outputs import described
from lowtide.workers.engine import outcomes
from lowtide.workers.engine.bounded_queue import BoundedQueue
from lowtide.workers.engine.crew import Crew
from lowtide.workers.engine.in_process import InProcess
from lowtide.workers.engine.job import Predicted
from lowtide.workers.model import Model

ENCODE_THREADS = 2
"""Apart from the decode threads: those may wait for a device, which may wait for this."""


class EncodeThreads:
    """Predicted batches from a queue, outcomes into futures. Its crew ends after the queue closed."""

    def __init__(
        self,
        *,
        models: Mapping[str, Model],
        predicted: BoundedQueue[Sequence[Predicted]],
        in_process: InProcess,
        result_max_bytes: int,
    ) -> None:
        self._models = models
        self._predicted = predicted
        self._in_process = in_process
        self._result_max_bytes = result_max_bytes
        self.crew = Crew("encode", ENCODE_THREADS, self._run)

    def _run(self) -> None:
        spare_the_cores()
        with torch.inference_mode():
            while (batch := self._predicted.get()) is not None:
                for predicted in batch:
                    self._in_process.resolve(predicted.ready.job, self._outcome(predicted))

    def _outcome(self, predicted: Predicted) -> Outcome:
        job = predicted.ready.job
        model = self._models[job.request.model]
        if predicted.output is None:
            return outcomes.failed(predicted, predicted.error or _blame(model, "it gave no output"))
        try:
            with self.crew.at_work(job):
                outputs = model.encode(predicted.output, job.request.params)
            if not isinstance(outputs, list | tuple):
                why = f"encode gave {described(outputs)}, and a list is wanted"
                return outcomes.failed(predicted, _blame(model, why))
            result_bytes = len(outcomes.to_json(outputs))
            outcome = outcomes.ok(predicted, outputs)
            outcome.to_wire()  # as the task does with all of its outcomes: one that fails there costs its neighbours
        except (ContentError, InvalidRequest) as error:
            return outcomes.failed(predicted, RequestError(type=error.type, message=str(error)))
        except BaseException as error:  # noqa: BLE001 - a model is somebody else's code: it may raise anything
            got = "" if isinstance(predicted.output, torch.Tensor) else f"; encode got {described(predicted.output)}"
            why = f"its outputs can't be encoded: {type(error).__name__}: {error}{got}"
            return outcomes.failed(predicted, _blame(model, why))
        if result_bytes > self._result_max_bytes:
            return outcomes.failed(predicted, _too_large(model, result_bytes, self._result_max_bytes))
        return outcome


def _blame(model: Model, why: str) -> RequestError:
    return RequestError(type="model_error", message=f"model {model.name}: {why}")


def _too_large(model: Model, result_bytes: int, max_bytes: int) -> RequestError:
    message = (
        f"model {model.name}: a result of {result_bytes} bytes is over {max_bytes}: ask for less, or raise "
        "LOWTIDE_RESULT_MAX_BYTES (Pub/Sub takes 10 MB)"
    )
    return RequestError(type="output_too_large", message=message)

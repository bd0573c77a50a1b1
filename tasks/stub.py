"""`StubEngine`: an engine without a model, for tests of applications that call tasks."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.tasks.wire.request import InferenceRequest


class StubEngine:
    """Answers each request at once with `outputs_of(request)`; what that raises becomes a failed outcome.

    >>> port.plug(StubEngine(lambda request: [{"label": "cat"}]))
    >>> infer({"model": "any", "uri": "gs://bucket/cat.jpg"})
    [{'label': 'cat'}]
    """

    def __init__(self, outputs_of: Callable[[InferenceRequest], list[Any]]) -> None:
        self._outputs_of = outputs_of

    def submit(self, requests: Sequence[InferenceRequest]) -> Sequence[Future[Outcome]]:
        """One future each, already done."""
        futures: list[Future[Outcome]] = []
        for request in requests:
            future: Future[Outcome] = Future()
            future.set_result(self._outcome(request))
            futures.append(future)
        return futures

    def fetch(self, requests: Sequence[InferenceRequest]) -> Sequence[InferenceRequest | Outcome]:
        """Nothing: content is not looked at."""
        return requests

    def seconds_per_request(self, model: str) -> float:
        """A millisecond, whatever the model."""
        return 0.001

    def _outcome(self, request: InferenceRequest) -> Outcome:
        if request.expired():
            return Outcome(status=Status.EXPIRED)
        try:
            return Outcome(status=Status.OK, model_version="stub", outputs=self._outputs_of(request))
        except Exception as error:  # noqa: BLE001 (an engine answers for every failure of a model)
            return Outcome.failed(type(error).__name__, str(error))

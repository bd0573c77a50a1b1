"""What has been measured of the models: device seconds per request, and seconds per batch."""

import threading
from collections import deque
from collections.abc import Iterable

from lowtide.tasks.chunks.packing import GUESSED_RATE_S

WEIGHT = 0.02
"""Of one request in the average: 35 requests count as much as all before them. A batch counts for all of its
requests, so that the rare batch of one (whose request pays for the whole device) hardly moves it."""

BATCHES_REMEMBERED = 100
"""For the 95th percentile: enough that five of them lie above it."""


class Rates:
    """Exponentially weighted averages per model, over all devices. Safe from any thread."""

    def __init__(self, models: Iterable[str]) -> None:
        self._request_s = dict.fromkeys(models, 0.0)
        self._batch_s = dict.fromkeys(self._request_s, 0.0)
        self._batches_s = {model: deque[float](maxlen=BATCHES_REMEMBERED) for model in self._request_s}
        self._lock = threading.Lock()

    def learn(self, model: str, *, n: int, batch_s: float) -> None:
        """A batch of `n` took `batch_s`."""
        weight = 1.0 - (1.0 - WEIGHT) ** n
        with self._lock:
            self._request_s[model] = _mixed(self._request_s[model], batch_s / n, weight)
            self._batch_s[model] = _mixed(self._batch_s[model], batch_s, weight)
            self._batches_s[model].append(batch_s)

    def request_s(self, model: str) -> float:
        """Device seconds per request of `model`; a guess before the first batch, and for a model that is unknown."""
        return self._request_s.get(model) or GUESSED_RATE_S

    def batch_s(self, model: str) -> float:
        """Seconds that a batch of `model` takes; 0 before the first."""
        return self._batch_s[model]

    def batch_p95_s(self, model: str) -> float:
        """Seconds within which 95 of 100 recent batches of `model` were done; 0 before the first."""
        with self._lock:
            batches_s = sorted(self._batches_s[model])
        return batches_s[int(0.95 * (len(batches_s) - 1))] if batches_s else 0.0

    def measured(self) -> dict[str, float]:
        """Device seconds per request of every model that has been measured."""
        return {model: rate for model, rate in self._request_s.items() if rate}


def _mixed(average: float, sample: float, weight: float) -> float:
    return average + weight * (sample - average) if average else sample

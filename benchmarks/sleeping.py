"""A model that sleeps 10 ms for each request: what a small GPU takes for a large image, without the GPU."""

import time

import torch

from benchmarks.noop import Noop

SECONDS = 0.01


class Sleeping(Noop):
    """Sleeps, then answers as `Noop` does."""

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        time.sleep(SECONDS * len(batch))
        return super().predict(batch)

"""A model that does no work: what is left is the way of a request."""

from collections.abc import Mapping
from typing import Any

import torch

from lowtide.workers.model import Model


class Noop(Model):
    """Answers every content with its length."""

    def load(self, device: torch.device) -> None:
        self.version = "1"

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        return torch.tensor([float(len(content))])

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        return batch

    def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
        return [output.item()]

"""`Model`: what one model has to bring. Users subclass it; `registry` finds it by name or import path."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What content may cost before it is refused."""

    image_max_pixels: int = 64_000_000


class Model(ABC):
    """One model on one device. `decode` and `encode` run on many threads at once, `load` and `predict` on the
    device's own thread.
    """

    default_weights: ClassVar[str | None] = None
    """Weights URI when the operator names none; None: the operator has to."""

    def __init__(self, name: str, *, weights: str | None = None, limits: Limits | None = None) -> None:
        self.name = name
        self.weights = weights or self.default_weights
        self.limits = limits or Limits()
        self.version = ""

    @abstractmethod
    def load(self, device: torch.device) -> None:
        """Load the weights onto `device` and set `version` (what the weights are: goes into every result)."""

    @abstractmethod
    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        """One item on the CPU, of the same shape for every content.

        Raises ContentError for content that's no good, InvalidRequest for params that are no good.
        """

    @abstractmethod
    def predict(self, batch: torch.Tensor) -> Sequence[torch.Tensor] | torch.Tensor:
        """Outputs on any device, one per item, in order. `batch` is (n, *item.shape) on the model's device."""

    @abstractmethod
    def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
        """One item's outputs (on the CPU by now) as JSON-ready values. Raises like `decode`."""

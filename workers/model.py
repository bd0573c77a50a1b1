"""`Model`: what one model has to bring. Users subclass it; `registry` finds it by name or import path."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch

Outputs: TypeAlias = torch.Tensor | list[Any] | tuple[Any, ...] | Mapping[str, Any]
"""What `predict` may give for a batch: see there."""


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
    def predict(self, batch: torch.Tensor) -> Outputs:
        """The outputs, on any device, of `batch`: (n, *item.shape) on the model's device. One of

        - a tensor, (n, …): every item gets its row;
        - a list of n, one output per item, in order: tensors, or tuples, lists or dicts of them;
        - a tuple, NamedTuple or dict of tensors, heads, each (n, …): every item gets its row of each, as a tuple, that
          NamedTuple or a dict. Heads may be nested.

        Always of the same form, whatever the batch. What can't be told apart by item fails the whole batch.
        """

    @abstractmethod
    def encode(self, output: Any, params: Mapping[str, Any]) -> list[Any]:
        """One item's output (tensors on the CPU, in the form that `predict` says) as JSON-ready values. Raises like
        `decode`.
        """

    def example(self) -> torch.Tensor | None:
        """An item as `decode` gives it. After `load`, batches of one, two and three of it show whether `predict` gives
        every item an output of its own; a model that doesn't is not served. None: only requests show it.
        """
        return None

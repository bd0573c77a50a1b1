"""A model of your own, in one file: how bright is a picture? It needs no weights and nothing is trained."""

from collections.abc import Mapping
from typing import Any

import torch

from lowtide.workers.images import decode_image, pixels
from lowtide.workers.model import Model

SIDE_PX = 32


class Brightness(Model):
    """Answers `[{"brightness": 0.31, "label": "dark"}]`; brightness runs from 0 (black) to 1 (white)."""

    def load(self, device: torch.device) -> None:
        """Once per process and device. A trained model would read `self.weights` here and keep its net."""
        self.version = "1"

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        """On many threads: content to a tensor of one shape, here uint8 (1, 32, 32). Bad content: ContentError."""
        picture = decode_image(content, max_pixels=self.limits.image_max_pixels, mode="L")
        return pixels(picture.resize((SIDE_PX, SIDE_PX)))

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """On the device: uint8 (n, 1, 32, 32) to one output for each, here (n,)."""
        return batch.float().mean(dim=(1, 2, 3)) / 255

    def example(self) -> torch.Tensor:
        """Something as `decode` gives it, so that the worker can try `predict` when it starts."""
        return torch.zeros(1, SIDE_PX, SIDE_PX, dtype=torch.uint8)

    def encode(self, output: torch.Tensor, params: Mapping[str, Any]) -> list[Any]:
        """One output as values that JSON knows. `params` are the request's own."""
        brightness = output.item()
        bright = brightness > params.get("threshold", 0.5)
        return [{"brightness": round(brightness, 3), "label": "bright" if bright else "dark"}]

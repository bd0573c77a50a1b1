"""`Preprocessing`: a published torchvision pipeline, split between the decode threads and the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from PIL import Image

from lowtide.workers.images import pixels

WHITE = 255.0

ENOUGH = 3
"""A JPEG is decoded no smaller than this many times the size that it's resized to: of a large photograph, libjpeg then
makes a picture with sides of a half, a quarter or an eighth.

Measured for resnet101 on rough synthetic photographs: 4032 x 3024 pixels take 37 ms instead of 86, 3000 x 2250 take 26
instead of 42, and pixels are off by 0.2 of 255 on average. At 2 that becomes 1.3 for some sizes, at 4 it's not less.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resize the shorter side, cut out the centre, scale to mean 0 and deviation 1: torchvision's ImageClassification.

    `cut_out` is the part for decode threads and keeps bytes (a quarter of what floats take on their way to the device);
    `normalise` is the part for the device, a batch at a time. Together they give what `weights.transforms()` gives,
    to one step of 255 per pixel; for large JPEGs see `ENOUGH`.
    """

    resize_px: int
    crop_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resampling: Image.Resampling

    @classmethod
    def published(cls, transforms: Any) -> Self:
        """From `weights.transforms()` of torchvision classification weights."""
        return cls(
            resize_px=transforms.resize_size[0],
            crop_px=transforms.crop_size[0],
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
            resampling=Image.Resampling[transforms.interpolation.value.upper()],
        )

    @property
    def enough_px(self) -> int:
        """How small a JPEG may be decoded."""
        return ENOUGH * self.resize_px

    def cut_out(self, picture: Image.Image) -> torch.Tensor:
        """uint8 (3, crop_px, crop_px) of an RGB picture of any size."""
        cut = picture.resize((self.crop_px, self.crop_px), self.resampling, box=self._box(picture.size))
        return pixels(cut)

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """float32 of the same shape as `batch`, uint8 (n, 3, height, width), on the same device."""
        mean = _per_channel(self.mean, batch.device)
        std = _per_channel(self.std, batch.device)
        return (batch.float() - mean * WHITE) / (std * WHITE)

    def _box(self, size_px: tuple[int, int]) -> tuple[float, float, float, float]:
        """What of the picture ends up in the crop, in its own pixels.

        Only that is resized. Resizing the whole first, as torchvision does, would make 1.6 billion pixels of a picture
        of 10 x 250,000.
        """
        shorter_px = min(size_px)
        resized = [int(self.resize_px * side_px / shorter_px) for side_px in size_px]
        starts = [round((side_px - self.crop_px) / 2) for side_px in resized]
        scales = [whole / side for whole, side in zip(size_px, resized, strict=True)]
        left, top = (start * scale for start, scale in zip(starts, scales, strict=True))
        right, bottom = ((start + self.crop_px) * scale for start, scale in zip(starts, scales, strict=True))
        return left, top, right, bottom


def _per_channel(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, device=device).view(1, -1, 1, 1)

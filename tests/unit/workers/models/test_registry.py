import base64
import io
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch
from PIL import Image

from lowtide.config.settings import Settings, SettingsError
from lowtide.workers.models import names
from lowtide.workers.models.digits import Digits
from lowtide.workers.models.registry import build_models
from lowtide.workers.models.torchvision_classifier import TorchvisionClassifier, architectures

OWN_MODEL = Path(__file__).parents[4] / "examples" / "own_model"


def built(*entries, **settings):
    return build_models(Settings(models=entries, **settings))


def complaint(*entries, **settings):
    with pytest.raises(SettingsError) as caught:
        built(*entries, **settings)
    return str(caught.value)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith((str(tmp_path), str(OWN_MODEL))):
            del sys.modules[name]


def test_models_come_by_name_in_order_with_their_weights_and_limits() -> None:
    models = built("mobilenet_v2", "digits", weights={"mobilenet_v2": "random"}, image_max_pixels=1000)
    assert list(models) == ["mobilenet_v2", "digits"]
    assert isinstance(models["digits"], Digits)
    assert isinstance(models["mobilenet_v2"], TorchvisionClassifier)
    assert models["mobilenet_v2"].weights == "random"
    assert models["digits"].limits.image_max_pixels == 1000


def test_a_known_model_serves_under_another_name_with_weights_of_its_own() -> None:
    models = built("cats=resnet18", "dogs=resnet18", weights={"cats": "random"})
    assert {name: model.name for name, model in models.items()} == {"cats": "cats", "dogs": "dogs"}
    assert (models["cats"].weights, models["dogs"].weights) == ("random", "DEFAULT")


def test_the_example_of_an_own_model_is_found_in_the_current_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(OWN_MODEL)
    model = built("brightness=own_model:Brightness")["brightness"]
    model.load(torch.device("cpu"))
    outputs = [
        model.encode(output, params)
        for level, params in ((30, {}), (200, {}), (200, {"threshold": 0.9}))
        for output in model.predict(model.decode(png(level), params).unsqueeze(0))
    ]
    assert outputs == [
        [{"brightness": 0.118, "label": "dark"}],
        [{"brightness": 0.784, "label": "bright"}],
        [{"brightness": 0.784, "label": "dark"}],
    ]


def png(level):
    file = io.BytesIO()
    Image.new("L", (50, 20), level).save(file, "PNG")
    assert base64.b64encode(file.getvalue())
    return file.getvalue()


def test_an_installed_package_adds_models_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoints(
        [EntryPoint("numerals", "lowtide.workers.models.digits:Digits", "lowtide.models")],
    )
    monkeypatch.setattr(names, "entry_points", lambda **wanted: found.select(**wanted))
    assert isinstance(built("numerals")["numerals"], Digits)
    assert "numerals" in complaint("numeral")


def test_an_unknown_name_gets_close_matches() -> None:
    assert "did you mean resnet101" in complaint("resnet_101")
    assert "Your own: resnet_101=package.module:Class" in complaint("resnet_101")
    assert ", wide_resnet50_2. Your own: x=package.module:Class" in complaint("x")


def test_capitals_are_told_of_however_many_there_are() -> None:
    assert "there is no model MNASNET0_5; did you mean mnasnet0_5? Your own" in complaint("MNASNET0_5")


def test_no_name_of_torchvisions_has_capitals() -> None:
    assert [name for name in architectures() if name != name.lower()] == []


def test_a_name_like_nothing_gets_the_whole_list() -> None:
    said = complaint("qqq")
    assert "digits, " in said
    assert "mobilenet_v2" in said


def test_detection_and_segmentation_models_are_not_classifiers() -> None:
    assert "there is no model fcn_resnet50" in complaint("fcn_resnet50")


def test_a_module_that_is_not_there_is_told_from_one_that_fails(here: Path) -> None:
    assert f"there is no module absent in {here}" in complaint("m=absent:Model")
    (here / "needs_more.py").write_text("import not_installed_either")
    said = complaint("m=needs_more:Model")
    assert "needs_more is there, but importing it failed: No module named 'not_installed_either'" in said


def test_a_class_that_is_not_there_is_named(here: Path) -> None:
    (here / "mine.py").write_text("x = 1")
    assert "has no attribute 'Absent'" in complaint("m=mine:Absent")
    assert "expected package.module:Class" in complaint("m=mine:")
    assert "expected package.module:Class" in complaint("m=:Absent")


def test_what_is_not_a_model_is_refused(here: Path) -> None:
    (here / "mine.py").write_text("class NotAModel: pass\nfunction = len")
    assert "mine:NotAModel is not a subclass of lowtide.workers.model.Model" in complaint("m=mine:NotAModel")
    assert "mine:function is not a subclass" in complaint("m=mine:function")


def test_a_model_that_lacks_methods_is_refused(here: Path) -> None:
    (here / "half.py").write_text("from lowtide.workers.model import Model\nclass Half(Model): pass")
    assert "predict" in complaint("m=half:Half")


def test_an_error_in_a_module_keeps_its_traceback(here: Path) -> None:
    (here / "broken.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        built("m=broken:Model")


def test_two_models_of_one_name_are_refused() -> None:
    assert "two models as digits" in complaint("digits", "digits=resnet18")
